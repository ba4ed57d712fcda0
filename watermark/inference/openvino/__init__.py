"""The frozen model on CPUs, through OpenVINO: converted once (`convert`), then read and continued (`lm`, `run`)."""
