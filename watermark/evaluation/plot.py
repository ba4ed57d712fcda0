"""The report as a picture: share detected per condition and attack, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_detection(report: dict[str, Any], path: Path) -> None:
    """Write a PNG. One row per cell label, one marker per length; whiskers are the 95 % intervals."""
    cells = report["detection"]
    labels = list(dict.fromkeys(_label(cell) for cell in cells))
    lengths = sorted({cell["length"] for cell in cells})
    figure = Figure(figsize=(8.0, 1.6 + 0.42 * len(labels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for series, length in enumerate(lengths):
        own = [cell for cell in cells if cell["length"] == length]
        offset = (series - (len(lengths) - 1) / 2) * 0.22
        shares = [cell["share"] for cell in own]
        whiskers = [[c["share"] - c["interval"][0] for c in own], [c["interval"][1] - c["share"] for c in own]]
        rows = [labels.index(_label(cell)) + offset for cell in own]
        axes.errorbar(shares, rows, xerr=whiskers, fmt="o", markersize=4, capsize=2, label=f"{length} tokens")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"share detected at false-positive rate {report['settings']['false_positive_rate']:g} (95 % interval)")
    axes.set_title(f"{report['settings']['checkpoint']} on {report['settings']['base_model']}, n = {max(c['n'] for c in cells)} per cell")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    figure.savefig(path, dpi=150)


def _label(cell: dict[str, Any]) -> str:
    return cell["attack"] if cell["condition"] == "marked" else f"{cell['condition']} text"
