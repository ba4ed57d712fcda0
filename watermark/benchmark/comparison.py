"""Where another method is better than ours: found in the report, not judged by its writers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lead:
    """A cell in which a peer detects a larger share than the default method."""

    attack: str
    length: int
    peer: str
    title: str
    share: float
    ours: float
    apart: bool
    """The 95 % intervals do not even touch."""


def marked_cells(report: dict[str, Any], method: str, rate: float) -> dict[tuple[str, int], dict[str, Any]]:
    """(attack, length) → cell of marked text."""
    cells = report["methods"][method]["detection"]
    return {(c["attack"], c["length"]): c for c in cells if c["condition"] == "marked" and c["rate"] == rate}


def peers(report: dict[str, Any]) -> list[str]:
    return [name for name, method in report["methods"].items() if not method["ours"]]


def leads(report: dict[str, Any], rate: float) -> list[Lead]:
    """Every cell in which any peer is ahead, by attack, length and size of the lead."""
    ours = marked_cells(report, report["default"], rate)
    found = []
    for name in peers(report):
        for (attack, length), cell in marked_cells(report, name, rate).items():
            own = ours[attack, length]
            if cell["share"] > own["share"]:
                apart = cell["interval"][0] > own["interval"][1]
                found.append(Lead(attack, length, name, report["methods"][name]["title"], cell["share"], own["share"], apart))
    return sorted(found, key=lambda lead: (lead.attack == "clean", lead.attack, lead.length, lead.ours - lead.share))


def other_leads(report: dict[str, Any]) -> Iterator[tuple[str, str, float, float]]:
    """(what, peer's title, its value, ours) for measures of quality and time on which a peer is nearer to unmarked text, or faster."""
    measures = [
        ("perplexity nearer to unmarked (ratio)", lambda m: m["quality"][-1]["perplexity"]["ratio"], lambda v: abs(v - 1)),
        ("repeated trigrams nearer to unmarked (difference)", lambda m: m["quality"][-1]["repeated_trigrams"]["difference"], abs),
        ("different texts over many draws of a prompt (share)", lambda m: m["diversity"]["different_texts"], lambda v: -v),
        ("distinct-2 over many draws of a prompt", lambda m: m["diversity"]["distinct_2"], lambda v: -v),
        ("likeness to human text (difference)", lambda m: m["similarity"] and m["similarity"]["difference"], lambda v: -v),
        ("time of writing over unmarked (ratio)", lambda m: m["timing"]["marked_over_unmarked"], lambda v: v),
        ("time of detection (seconds)", lambda m: m["timing"]["detection_seconds"], lambda v: v),
    ]
    default = report["methods"][report["default"]]
    for what, value, badness in measures:
        own = value(default)
        for name in peers(report):
            theirs = value(report["methods"][name])
            if own is not None and theirs is not None and badness(theirs) < badness(own):
                yield what, report["methods"][name]["title"], theirs, own
