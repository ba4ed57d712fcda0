"""Write docs/evaluation/README.md from the reports beside it, so that no number there is typed by hand.

    python -m benchmarks.evaluation_page

Reads report.json (`countersign evaluate`), surprisal.json (`benchmarks.surprisal`) and marking-cost.json (`benchmarks.marking_cost`) in
docs/evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "evaluation"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def detection(report: dict[str, Any]) -> str:
    rows = []
    for cell in report["detection"]:
        low, high = cell["interval"]
        name = f"{cell['condition']}, {cell['attack']}" if cell["condition"] == "marked" else cell["condition"]
        numbers = [str(cell["n"]), f"{cell['share']:.3f}", f"{low:.3f} … {high:.3f}", f"{cell['median_p']:.0e}"]
        rows.append([str(cell["length"]), name, *numbers])
    return table(["tokens", "text", "n", "detected", "95 % interval", "median p"], rows)


def quality(report: dict[str, Any]) -> str:
    rows = []
    for cell in report["quality"]:
        for measure in ("perplexity", "repeated_trigrams", "distinct_2"):
            v = cell[measure]
            low, high = v["interval"]
            kind, change = ("ratio", v["ratio"]) if "ratio" in v else ("difference", v["difference"])
            numbers = [f"{v['marked']:.4g}", f"{v['unmarked']:.4g}", f"{kind} {change:.4f}", f"{low:.4f} … {high:.4f}"]
            rows.append([str(cell["length"]), measure.replace("_", " "), *numbers])
    return table(["tokens", "measure", "marked", "unmarked", "change", "95 % interval"], rows)


def similarity(report: dict[str, Any]) -> str:
    found = report["similarity"]
    if not found:
        return "No prompt had a human continuation to compare with."
    low, high = found["interval"]
    return (
        f"Likeness to the human continuation (cosine of the mean state of the base model's middle layer, standardised, first "
        f"{found['tokens']} tokens, {found['n']} prompts): marked {found['marked']:.3f}, unmarked {found['unmarked']:.3f}, "
        f"difference {found['difference']:+.4f} [{low:.4f}, {high:.4f}]."
    )


def surprisal(path: Path) -> str:
    found = json.loads(path.read_text())
    rows = []
    for cell in found["nats_per_token"]:
        columns = (cell[name] for name in ("marked", "unmarked", "difference"))
        numbers = [f"{c['mean']:+.4f} [{c['interval'][0]:+.4f}, {c['interval'][1]:+.4f}]" for c in columns]
        rows.append([f"{cell['tokens'][0]} to {cell['tokens'][1]}", str(cell["n"]), *numbers])
    return (
        "By how much tokens surprise the model more than it expects, given what was written so far (nats a token; `python -m\n"
        f"benchmarks.surprisal`, seed {found['seed']}). More sensitive than perplexity, which differs by what the texts are about.\n\n"
        + table(["tokens", "prompts", "marked", "unmarked", "difference"], rows)
    )


def cost(path: Path) -> str:
    found = json.loads(path.read_text())
    ratio, check = found["marked_over_unmarked"], found["self_check_over_unmarked"]["median"]
    return (
        f"CPU time of the marked over the unmarked decoding loop, batch {found['batch']} x {found['tokens']} tokens, "
        f"{found['pairs']} pairs, {found['threads']} threads: median {ratio['median']:.3f} "
        f"({min(ratio['all']):.3f} … {max(ratio['all']):.3f}). "
        f"Verifying the finished texts before they are handed out adds {check:.3f}."
    )


def main() -> None:
    report = json.loads((FOLDER / "report.json").read_text())
    parts = [
        "# Evaluation of the shipped checkpoint",
        "Written by `python -m benchmarks.evaluation_page`; do not edit.",
        f"Base model {report['settings']['base_model']}, checkpoint {report['settings']['checkpoint']}, temperature "
        f"{report['settings']['temperature']}, top-k {report['settings']['top_k']}, seed {report['settings']['seed']}, "
        f"{report['settings']['keys']} keys, 4-bit nonce; verified from the text alone; detected means p < "
        f"{report['settings']['false_positive_rate']} after correction. Prompts: "
        + ", ".join(name for name, _ in report["settings"]["prompts"])
        + f". {report['created'][:10]}, "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + ".",
        "## Detection",
        "![detection by attack](report.png)",
        detection(report),
        "## Text quality",
        quality(report),
        similarity(report),
        surprisal(FOLDER / "surprisal.json"),
        "## False positives",
        "With many fixed keys, by kind of text and length: [docs/calibration](../calibration/README.md).",
        "## Cost of marking",
        cost(FOLDER / "marking-cost.json"),
    ]
    (FOLDER / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
