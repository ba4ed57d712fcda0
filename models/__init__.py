"""Where weights come from: base models by short name, folder or hub id, and the watermark checkpoints shipped with Countersign."""
