"""The speed table as a picture: ratios with their spread, what is asked of them, and verification time against length."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from benchmarks.speed.rows import Row


def speed_plot(rows: Sequence[Row], path: Path) -> None:
    """Write a PNG. A panel whose measures were not run stays away."""
    ratios = [row for row in rows if row.ratio]
    growth = next((row.detail["points"] for row in rows if "points" in row.detail), None)
    panels = bool(ratios) + bool(growth)
    if not panels:
        return
    figure = Figure(
        figsize=(9.0 if ratios else 5.0, (1.2 + 0.34 * len(ratios) if ratios else 0) + (3.2 if growth else 0)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    heights = [1.2 + 0.34 * len(ratios)] * bool(ratios) + [3.2] * bool(growth)
    axes = list(figure.subplots(panels, 1, squeeze=False, height_ratios=heights)[:, 0])
    if ratios:
        _ratios(axes[0], ratios)
    if growth:
        _growth(axes[-1], growth)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _ratios(axes: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        assert row.ratio is not None
        whiskers = [[row.ratio.median - row.ratio.low], [row.ratio.high - row.ratio.median]]
        axes.errorbar(
            [row.ratio.median], [place], xerr=whiskers, fmt="o", markersize=4, capsize=2, color="C0" if row.met is not False else "C3"
        )
        if row.asked and row.asked.of == "ratio":
            axes.plot([row.asked.limit], [place], "|", color="0.2", markersize=12)
    axes.axvline(1.0, color="0.4", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_yticks(range(len(rows)), [row.measure for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("times as fast: median and range\n(bar: asked, red: missed)")
    axes.grid(axis="x", alpha=0.3)


def _growth(axes: Axes, points: Sequence[Sequence[float]]) -> None:
    tokens, seconds = zip(*points, strict=True)
    axes.plot(tokens, seconds, "o", markersize=4)
    ends = [min(tokens), max(tokens)]
    pace = statistics.median(s / t for t, s in points)
    axes.plot(ends, [pace * end for end in ends], color="0.4", linewidth=0.8, linestyle=":", label="linear at the median pace")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("tokens")
    axes.set_ylabel("seconds to verify")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
