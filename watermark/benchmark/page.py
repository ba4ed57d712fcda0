"""The report as a page. Nothing on it is typed by hand.

    python -m watermark.benchmark.page PAGE.md

writes PAGE.md again from report.json in the folder beside it that is called PAGE.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from watermark.benchmark.comparison import leads, marked_cells, other_leads, peers
from watermark.benchmark.settings import RATES

CHANCE = 0.05
FILES = ("report.json", "detection.png", "quality.png")


def publish(out: Path, path: Path) -> None:
    """Copy report and plots of the run in `out` to the folder beside `path` that has its name, and write the page."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(out / name, folder / name)
    rewrite(path)


def rewrite(path: Path) -> None:
    path.write_text(published(path), encoding="utf-8")


def published(path: Path) -> str:
    """What the page at `path` is to say, from the report beside it."""
    folder = path.with_suffix("")
    return page(json.loads((folder / "report.json").read_text(encoding="utf-8")), images=f"{folder.name}/")


def page(report: dict[str, Any], images: str = "") -> str:
    return "\n\n".join(_parts(report, images)) + "\n"


def _parts(report: dict[str, Any], images: str) -> Iterator[str]:
    settings = report["settings"]
    yield "# Evidence: Countersign beside its peers"
    yield "Written by `countersign benchmark`; do not edit."
    yield f"```console\n{report['command']}\n```"
    prompts = ", ".join(name for name, _ in settings["prompts"])
    yield (
        f"{report['created'][:10]}, seed {settings['seed']}, base model {settings['base_model']} ({settings['backend']}, "
        f"{report['machine']['device']}, {report['machine']['processors']} processors), temperature {settings['temperature']:g}, top-k "
        f"{settings['top_k']}; {settings['n']} prompts from {prompts}, each continued by {settings['longest']} tokens, shorter texts are "
        f"their beginnings; up to {settings['human']:,} human texts of each length from {settings['human_file'][0]}. Versions: "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + "."
    )
    yield "Every method ran on the same model, prompts, candidates, random numbers, attacks (with the same random edits) and human text."
    yield _table(["method", "settings"], [[m["title"], _settings(m["settings"])] for m in report["methods"].values()])
    yield from _where_peers_lead(report)
    yield from _detection(report, images)
    yield from _thresholds(report)
    yield from _payload(report)
    yield from _quality(report, images)
    yield from _time(report)
    yield "## How to read this"
    yield _NOTES


def _settings(settings: dict[str, Any]) -> str:
    shown = {name: value for name, value in settings.items() if value is not None}
    return ", ".join(f"{name} {_short(value)}" for name, value in shown.items())


def _short(value: Any) -> str:
    return f"({len(value)} numbers)" if isinstance(value, list) else f"{value}"


def _where_peers_lead(report: dict[str, Any]) -> Iterator[str]:
    default, strict = report["methods"][report["default"]]["title"], RATES[-1]
    yield "## Where a peer is better"
    found = leads(report, strict)
    attacked = [lead for lead in found if lead.attack != "clean"]
    cells = {cell for cell in marked_cells(report, report["default"], strict) if cell[0] != "clean"}
    behind = {(lead.attack, lead.length) for lead in attacked}
    yield (
        f"Of {len(cells)} attacked cells at a false-positive rate of {strict:g}, {default} is behind a peer in {len(behind)}"
        + "."
        + (f" On clean text, which counts apart, in {len(found) - len(attacked)} more." if len(found) > len(attacked) else "")
    )
    if found:
        rows = [
            [
                *(lead.attack, str(lead.length), lead.title, f"{lead.share:.3f}", f"{lead.ours:.3f}"),
                *(f"{lead.only_peer} / {lead.only_ours}", f"{lead.p_value:.2g}", f"{lead.perplexity:.2f}"),
            ]
            for lead in found
        ]
        pairs = ["texts that only it / only ours detects", "p (McNemar)", "its perplexity over unmarked"]
        yield _table(["attack", "tokens", "peer", "its share detected", "ours", *pairs], rows)
        chance = [lead for lead in found if lead.p_value >= CHANCE / len(found)]
        yield (
            f"In {len(chance)} of these {len(found)} rows the difference is within chance: two equally good methods would differ so often "
            f"on the same prompts (p at least {CHANCE:g} by Bonferroni over the rows). A perplexity far below 1 marks texts that "
            "repeat themselves: what is repeated is detected again, and deleting a part of it takes little away."
        )
    others = [[what, title, f"{theirs:.4g}", f"{own:.4g}"] for what, title, theirs, own in other_leads(report)]
    if others:
        yield "Other measures on which a peer is ahead, whether or not the difference is more than chance:"
        yield _table(["measure", "peer", "its value", "ours"], others)


def _detection(report: dict[str, Any], images: str) -> Iterator[str]:
    yield "## Detection"
    yield f"![detection by attack]({images}detection.png)"
    methods = report["methods"]
    attacks = ["clean", *report["settings"]["attacks"]]
    for rate in RATES:
        for length in report["settings"]["lengths"]:
            yield f"Share detected at a measured false-positive rate of {rate:g}, {length} tokens (n = {report['settings']['n']}):"
            tables = {name: marked_cells(report, name, rate) for name in methods}
            rows = [[attack, *(_share(tables[name][attack, length]) for name in methods)] for attack in attacks]
            unmarked = ["unmarked model text", *(_share(_unmarked(methods[name], rate, length)) for name in methods)]
            yield _table(["attack", *(m["title"] for m in methods.values())], [*rows, unmarked])


def _unmarked(method: dict[str, Any], rate: float, length: int) -> dict[str, Any]:
    return next(cell for cell in method["detection"] if _key(cell) == ("unmarked", "clean", length, rate))


def _key(cell: dict[str, Any]) -> tuple[str, str, int, float]:
    return cell["condition"], cell["attack"], cell["length"], cell["rate"]


def _share(cell: dict[str, Any]) -> str:
    """Share [interval over texts]; what the threshold's own interval would make of it."""
    (low, high), (least, most) = cell["interval"], cell["threshold_range"]
    moved = "" if least == most else f" ({least:.3f}–{most:.3f})"
    return f"{cell['share']:.3f} [{low:.3f}, {high:.3f}]{moved}"


def _thresholds(report: dict[str, Any]) -> Iterator[str]:
    yield "## False positives"
    yield (
        "Thresholds are set on human text: at most the stated share of it is above them. A method that publishes a p-value is also held "
        "to it: the share of human texts, and of clean marked texts, below the nominal rate."
    )
    rows = []
    for method in report["methods"].values():
        for cell in method["thresholds"]:
            own = "none" if cell["own_rate"] is None else f"{cell['own_rate']:.5f} {_interval(cell['own_interval'], 5)}"
            limits = f"{cell['threshold']:.3f} [{cell['range'][0]:.3f}, {cell['range'][1]:.3f}]"
            numbers = [f"{cell['rate']:g}", str(cell["length"]), f"{cell['n']:,}", limits, f"{cell['measured_rate']:.5f}", own]
            clean = next(c["own_share"] for c in method["detection"] if _key(c) == ("marked", "clean", cell["length"], cell["rate"]))
            rows.append([method["title"], *numbers, "none" if clean is None else f"{clean:.3f}"])
    yield _table(
        ["method", "rate", "tokens", "human texts", "threshold [95 %]", "measured rate", "rate of its own p-value", "clean marks it finds"],
        rows,
    )
    small = min(cell["n"] for method in report["methods"].values() for cell in method["thresholds"])
    if small * RATES[-1] < 5:
        yield f"With {small:,} human texts a rate of {RATES[-1]:g} is a handful of texts or none: the thresholds there are rough."


def _payload(report: dict[str, Any]) -> Iterator[str]:
    yield "## Payload"
    rows = []
    for method in report["methods"].values():
        for cell in method["payload"] or []:
            exact, bits = _interval(cell["exact_interval"]), _interval(cell["bit_accuracy_interval"])
            likeliest = f"{cell['likeliest']:.3f} {_interval(cell['likeliest_interval'])}"
            numbers = [likeliest, f"{cell['bit_accuracy']:.3f} {bits}", f"{cell['exact']:.3f} {exact}", f"{cell['wrong']:.3f}"]
            rows.append([method["title"], str(cell["bits"]), cell["attack"], str(cell["length"]), str(cell["n"]), *numbers])
    bits = ["bit accuracy of the likeliest message", "bit accuracy of the verdict"]
    header = ["method", "bits", "attack", "tokens", "n", *bits, "whole message stated", "another message stated"]
    yield _table(header, rows)
    titles = ", ".join(report["methods"][name]["title"] for name in peers(report))
    yield (
        "A verdict states what it is sure of; a bit it leaves out counts as half right. The likeliest message leaves nothing out."
        + (f" No message is carried by {titles}." if titles else "")
    )


def _quality(report: dict[str, Any], images: str) -> Iterator[str]:
    yield "## Quality"
    yield f"![detection against quality]({images}quality.png)"
    rows = []
    for method in report["methods"].values():
        for cell in method["quality"]:
            perplexity, trigrams, distinct = (cell[name] for name in ("perplexity", "repeated_trigrams", "distinct_2"))
            rows.append(
                [method["title"], str(cell["length"]), str(cell["n"])]
                + [f"{perplexity['marked']:.3f} / {perplexity['unmarked']:.3f}"]
                + [f"{perplexity['ratio']:.3f} {_interval(perplexity['interval'])}"]
                + [f"{v['marked']:.4f}, {v['difference']:+.4f} {_interval(v['interval'], 4)}" for v in (trigrams, distinct)]
            )
    yield f"Against unmarked texts of the same prompts. Perplexity under {report['judge']} in full precision, at temperature 1:"
    header = ["method", "tokens", "n", "perplexity, marked / unmarked", "ratio", "repeated trigrams, difference", "distinct-2, difference"]
    yield _table(header, rows)
    if report["independent_perplexity"]:
        yield f"Under a model that wrote none of the texts, {report['independent_judge']}:"
        rows = [
            [report["methods"].get(name, {"title": "unmarked"})["title"], f"{v['marked']:.3f}", f"{v['marked_nats_per_character']:.4f}"]
            for name, v in report["independent_perplexity"].items()
        ]
        yield _table(["method", "perplexity", "nats per character"], rows)
    else:
        yield "Perplexity under an independent model was not measured: none comes with Countersign, and none was given (`--judge`)."
    inside = [(m["title"], m["divergence"]) for m in report["methods"].values() if m["divergence"]]
    if inside:
        yield (
            "Marks that act inside the model change the distribution of the next token itself, whatever the key. KL(marked ‖ base) along "
            "the marked texts, over the whole vocabulary, before top-k:"
        )
        rows = [[title, str(d["n"]), f"{d['nats']:.3f} {_interval(d['interval'])}"] for title, d in inside]
        yield _table(["method", "n", "nats per token"], rows)
    similar = [(m["title"], m["similarity"]) for m in report["methods"].values() if m["similarity"]]
    if similar:
        yield (
            "Likeness to the human continuation (cosine of the mean state of the base model's middle layer, standardised, first "
            f"{similar[0][1]['tokens']} tokens):"
        )
        rows = [
            [t, f"{s['marked']:.4f}", f"{s['unmarked']:.4f}", f"{s['difference']:+.4f} {_interval(s['interval'], 4)}"] for t, s in similar
        ]
        yield _table(["method", "marked", "unmarked", "difference"], rows)
    plain = report["unmarked"]["diversity"]
    yield (
        f"Variety over {plain['continuations']} continuations of one prompt, {plain['tokens']} tokens each, by one key ({plain['prompts']} "
        "prompts):"
    )
    named = [("unmarked", plain), *((m["title"], m["diversity"]) for m in report["methods"].values())]
    measures = ("different_texts", "distinct_2", "distinct_4")
    rows = [[title, *(f"{v[name]:.3f} {_interval(v[f'{name}_interval'])}" for name in measures)] for title, v in named]
    yield _table(["method", "different texts", "distinct-2", "distinct-4"], rows)


def _time(report: dict[str, Any]) -> Iterator[str]:
    yield "## Time"
    rows = []
    for method in report["methods"].values():
        t = method["timing"]
        ratio = f"{t['marked_over_unmarked']:.2f} ({min(t['ratios']):.2f}–{max(t['ratios']):.2f})"
        rows.append([method["title"], ratio, f"{1000 * t['seconds_per_token']:.1f} ms", f"{1000 * t['detection_seconds']:.0f} ms"])
    one = next(iter(report["methods"].values()))["timing"]
    yield _table(["method", "writing, marked over unmarked", "per marked token", f"detecting {report['settings']['longest']} tokens"], rows)
    yield (
        f"Wall clock; batch {one['batch']} of {one['tokens']} tokens, {len(one['ratios'])} rounds in turns, median (lowest–highest). Each "
        "ratio is against the unmarked writing of the same engine. Countersign's writing includes the check of each finished text; "
        f"peers work on the candidates instead of the whole vocabulary where that gives the same. Detection: median of {one['detected']} "
        "texts, one at a time, nothing remembered between them."
    )


def _interval(interval: Sequence[float], digits: int = 3) -> str:
    return f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _table(header: list[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_NOTES = """\
* Intervals are 95 %: Clopper-Pearson for shares, bootstrap over prompts for the rest. In round brackets beside a share of detected texts:
  what it would be at both ends of the 95 % interval of the threshold, which follows from the number of human texts.
* The threshold of a length comes from human text of that length as it is. Attacked texts may be shorter or longer than that.
* Countersign takes turns with several keys and pays for all nonces in its p-value; each peer has the one key that it comes with.
  A single key may by luck suit human text better or worse; the threshold on human text makes up for that.
* Peers have the settings that their libraries or authors publish, but the sampling of this run, not their own defaults for it.
* SynthID is detected by its authors' weighted mean of g-values, standardised. Their Bayesian detector has to be trained for every key
  first and was left out; it may detect more.
* KGW counts every pair of tokens, as transformers does by default."""


if __name__ == "__main__":
    rewrite(Path(sys.argv[1]))
