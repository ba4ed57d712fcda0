"""Rows of the speed table: two figures that were taken in turns, how many times as fast the first is, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.speed.pairing import Spread, paired_ratios

RATES = ("tokens/s",)
"""Units of which more is faster; of all others less is."""


@dataclass(frozen=True)
class Figure:
    """One value for every round."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def spread(self) -> Spread:
        return Spread.of(self.values)

    def times_as_fast_as(self, other: Figure) -> list[float]:
        """Round by round. Raises ValueError for figures of different units or rounds."""
        if self.unit != other.unit:
            raise ValueError(f"{self.unit} cannot be held against {other.unit}.")
        return paired_ratios(self.values, other.values) if self.unit in RATES else paired_ratios(other.values, self.values)


@dataclass(frozen=True)
class Asked:
    """A bound on the median: of the ratio, or of the first figure."""

    of: Literal["ratio", "figure"]
    relation: Literal["≥", "≤"]
    limit: float

    def met(self, value: float) -> bool:
        return value >= self.limit if self.relation == "≥" else value <= self.limit


@dataclass(frozen=True)
class Row:
    measure: str
    first: Figure | None = None
    second: Figure | None = None
    asked: Asked | None = None
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    """For the JSON and the plot."""

    @property
    def ratio(self) -> Spread | None:
        return Spread.of(self.first.times_as_fast_as(self.second)) if self.first and self.second else None

    @property
    def met(self) -> bool | None:
        """None where nothing is asked, or nothing could be measured."""
        spread = self.ratio if self.asked and self.asked.of == "ratio" else self.first.spread if self.first else None
        return self.asked.met(spread.median) if self.asked and spread else None

    def as_json(self) -> dict[str, Any]:
        figures = [{**asdict(f), "values": [float(f"{v:.5g}") for v in f.values]} for f in (self.first, self.second) if f]
        ratio = {name: round(value, 4) for name, value in asdict(self.ratio).items()} if self.ratio else None
        found = {"figures": figures, "times_as_fast": ratio, "asked": asdict(self.asked) if self.asked else None, "met": self.met}
        return {"measure": self.measure, **found, "note": self.note, **self.detail}


def not_installed(measure: str, package: str) -> Row:
    return Row(measure, note=f"not installed: pip install {package}")


def table(rows: Sequence[Row]) -> str:
    """Markdown, columns aligned."""
    head = ["measure", "first", "second", "times as fast (min … max)", "asked", "met", "note"]
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    ratio = f"{row.ratio.median:.3g} ({row.ratio.low:.3g} … {row.ratio.high:.3g})" if row.ratio else ""
    asked = f"{row.asked.relation} {row.asked.limit:.4g}{'×' if row.asked.of == 'ratio' else ''}" if row.asked else ""
    met = "" if row.met is None else "yes" if row.met else "NO"
    return [row.measure, _figure(row.first), _figure(row.second), ratio, asked, met, row.note]


def _figure(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.name} {figure.spread.median:.4g} {figure.unit}".strip()
