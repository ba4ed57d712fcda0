"""Training curves as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

PANELS = {
    "loss terms": ["loss", "detection", "balance", "repeats", "quality"],
    "z (training texts of different lengths)": ["z_clean", "z_promptless", "z_edited"],
    "z (held-out texts of full length)": [
        *("val_z_clean", "val_z_clean_p05", "val_z_promptless", "val_z_promptless_p05", "val_z_edited", "val_z_edited_p10"),
    ],
    "marking": ["marked", "divergence", "val_divergence", "bits_clean", "bits_edited", "val_bits_clean", "val_bits_edited"],
}


def plot_curves(path: Path) -> Path:
    """Draw the CSV at `path` into a PNG beside it and return the PNG's path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else None)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    target = path.with_suffix(".png")
    figure.savefig(target, dpi=110)
    return target
