"""The report as pictures: detection by attack and length, and what it costs in quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from watermark.benchmark.comparison import marked_cells
from watermark.benchmark.settings import RATES

STRICT = RATES[-1]


def plot_detection(report: dict[str, Any], path: Path) -> None:
    """One panel for each length, one row for each attack, one marker for each method, at the strictest rate."""
    lengths, attacks = report["settings"]["lengths"], ["clean", *report["settings"]["attacks"]]
    figure = Figure(figsize=(4.2 * len(lengths) + 1.5, 1.5 + 0.5 * len(attacks)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0]
    count = len(report["methods"])
    for axes, length in zip(panels, lengths, strict=True):
        for series, (name, method) in enumerate(report["methods"].items()):
            cells = marked_cells(report, name, STRICT)
            rows = [cells[attack, length] for attack in attacks]
            shares = [cell["share"] for cell in rows]
            whiskers = [[c["share"] - c["interval"][0] for c in rows], [c["interval"][1] - c["share"] for c in rows]]
            places = [i + (series - (count - 1) / 2) * 0.7 / count for i in range(len(attacks))]
            axes.errorbar(shares, places, xerr=whiskers, fmt="o", markersize=4, capsize=2, label=method["title"])
        axes.set_title(f"{length} tokens")
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel(f"share detected at {STRICT:g} (95 % interval)")
    panels[0].set_yticks(range(len(attacks)), attacks)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(count, 3), fontsize="small")
    figure.savefig(path, dpi=130)


def plot_quality(report: dict[str, Any], path: Path) -> None:
    """Mean share detected over the attacked cells, against perplexity and against variety over many draws."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for name, method in report["methods"].items():
        cells = marked_cells(report, name, STRICT)
        share = sum(cell["share"] for cell in cells.values()) / len(cells)
        perplexity = method["quality"][-1]["perplexity"]
        left.errorbar(
            [perplexity["ratio"]],
            [share],
            xerr=[[perplexity["ratio"] - perplexity["interval"][0]], [perplexity["interval"][1] - perplexity["ratio"]]],
            fmt="o",
            capsize=2,
            label=method["title"],
        )
        right.plot([method["diversity"]["distinct_4"]], [share], "o")
    left.axvline(1.0, color="grey", linewidth=0.8)
    right.axvline(report["unmarked"]["diversity"]["distinct_4"], color="grey", linewidth=0.8)
    left.set_xlabel("perplexity, marked over unmarked (95 % interval); the line: unmarked")
    right.set_xlabel("distinct-4 over many continuations of a prompt; the line: unmarked")
    left.set_ylabel(f"mean share detected, all cells, at {STRICT:g}")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(loc="best", fontsize="small")
    figure.savefig(path, dpi=130)
