"""Where another method is better than ours: found in the report, not judged by its writers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest


@dataclass(frozen=True)
class Lead:
    """A cell in which a peer detects a larger share than the default method."""

    attack: str
    length: int
    peer: str
    title: str
    share: float
    ours: float
    only_peer: int
    """Prompts whose text the peer detects and ours does not."""
    only_ours: int
    p_value: float
    """McNemar's exact test, two-sided, of the prompts on which the two differ (Psychometrika 12, 1947)."""
    perplexity: float
    """Of the peer's texts of that length over unmarked ones: what the detection costs."""


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
                only_peer, only_ours = len(set(own["missed"]) - set(cell["missed"])), len(set(cell["missed"]) - set(own["missed"]))
                method = report["methods"][name]
                perplexity = next(q["perplexity"]["ratio"] for q in method["quality"] if q["length"] == length)
                p_value = float(binomtest(only_peer, only_peer + only_ours).pvalue)
                found.append(
                    Lead(attack, length, name, method["title"], cell["share"], own["share"], only_peer, only_ours, p_value, perplexity)
                )
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
