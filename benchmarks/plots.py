"""Pictures of a calibration: false-positive rates observed against nominal, and detection against length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from watermark.calibration.power import Power

PAYLOADS = (0, 8, 16, 32, 64)


def false_positive_plot(cells: Sequence[dict], path: Path) -> None:
    """One panel per kind of text: observed over nominal rate of the reported p-value, one line per length, with its intervals."""
    kinds = list(dict.fromkeys(cell["kind"] for cell in cells))
    columns = min(4, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for panel, kind in zip(panels, kinds, strict=False):
        own = [cell for cell in cells if cell["kind"] == kind]
        for i, cell in enumerate(own):
            nominal = np.array([float(rate) for rate in cell["reported"]])
            ratio = np.array([r["observed"] for r in cell["reported"].values()]) / nominal
            bounds = np.array([r["interval"] for r in cell["reported"].values()]) / nominal[:, None]
            whiskers = np.abs(np.stack([ratio - bounds[:, 0], bounds[:, 1] - ratio]))
            panel.errorbar(nominal * 1.12**i, ratio, yerr=whiskers, fmt="o-", markersize=3, capsize=2, label=f"{cell['tokens']} tokens")
        panel.axhline(1.0, color="0.4", linewidth=0.8)
        panel.axhline(1.5, color="0.4", linewidth=0.8, linestyle=":")
        panel.set_xscale("log")
        panel.set_ylim(0, 2.5)
        panel.set_title(f"{kind} ({own[0]['texts']:,} texts)", fontsize="medium")
    for panel in panels[len(kinds) :]:
        panel.set_visible(False)
    panels[0].legend(fontsize="x-small")
    figure.supxlabel("nominal false-positive rate")
    figure.supylabel("observed / nominal")
    figure.savefig(path, dpi=130)


def power_plot(power: Power, units: int, false_positive_rate: float, path: Path) -> None:
    """Share of unedited marked texts that are found, by length, one line per payload size."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for bits in PAYLOADS:
        shares = [
            power.expected_detection(tokens, false_positive_rate=false_positive_rate, payload_bits=bits, units=units)
            for tokens in power.lengths
        ]
        axes.plot(power.lengths, shares, "o-", markersize=3, label=f"{bits} bits")
    axes.axhline(0.95, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_xlabel("tokens")
    axes.set_ylabel(f"share found at p < {false_positive_rate:g}")
    axes.set_title(f"{len(power.exponents)} marked texts, cut at each length; {units} nonces tried", fontsize="medium")
    axes.legend(title="payload", fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
