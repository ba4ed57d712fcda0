"""Write docs/calibration/README.md and its pictures from the checkpoint's calibration and the reports beside the page.

    python -m benchmarks.calibration_page

Reports, each the output of one command: false-positives.json (benchmarks.false_positives), payload.json (benchmarks.payload),
localisation.json (benchmarks.localisation), issuers.json (benchmarks.many_issuers). What is missing is left out, and
what was measured with other weights than those that ship is marked so.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.evaluation_page import table
from benchmarks.plots import PAYLOADS, false_positive_plot, power_plot
from models.registry import DEFAULT_BASE_MODEL, default_checkpoint
from watermark.calibration.file import Calibration, load_calibration
from watermark.checkpoint_folder import read_config, weights_digest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "calibration"
RATE = 1e-3


def power_section(calibration: Calibration, units: int) -> str:
    power = calibration.power
    rows = []
    for bits in PAYLOADS:
        options = {"false_positive_rate": RATE, "payload_bits": bits, "units": units}
        shares = [f"{power.expected_detection(tokens, **options):.2f}" for tokens in (16, 25, 50, 100, 200)]
        rows.append([str(bits), *shares, str(power.sufficient_tokens(**options) or f"more than {power.lengths[-1]}")])
    heading = ["payload bits", *(f"{t} tokens" for t in (16, 25, 50, 100, 200)), "95 % found from"]
    return (
        "## Detection against length\n\n![detection against length](power.png)\n\n"
        f"Share of {len(power.exponents)} unedited marked texts found at p < {RATE:g} (one issuer, {units} nonces, whole-text test),\n"
        "from the checkpoint's calibration. This is what `expected_detection` and `insufficient_text` mean.\n\n" + table(heading, rows)
    )


def false_positive_section(report: dict) -> str:
    rows = []
    for cell in report["cells"]:
        row = [cell["kind"], str(cell["tokens"]), f"{cell['texts']:,}"]
        for nominal in ("0.01", "0.001", "0.0001"):
            found = cell["reported"][nominal]
            low, high = found["interval"]
            row.append(f"{found['observed']:.2e} [{low:.1e}, {high:.1e}]")
        row.append(f"{cell['exact']['0.001']['observed']:.2e}")
        row.append(f"{cell['reported']['0.01']['worst_key']['observed']:.4f}")
        row.append(str(sum(r["worst_key"]["keys_surely_above_1.5"] for r in cell["reported"].values())))
        rows.append(row)
    heading = ["kind", "tokens", "texts", "at 1e-2", "at 1e-3", "at 1e-4", "exact p, at 1e-3", "worst key at 1e-2", "keys above 1.5 x"]
    return (
        "## False positives\n\n![observed over nominal rate](false-positives.png)\n\n"
        f"{report['keys']} fixed keys that passed the health check ({report['keys_refused']} were refused and drawn again), "
        "every text against\nevery key, whole-text test over 16 nonces, seed "
        f"{report['seed']}. Observed rate of the reported p-value with a 95 % interval by bootstrap over documents;\n"
        "the rate of the exact p-value for comparison; the worst single key; and keys that are above 1.5 times any nominal rate with\n"
        "99.9 % confidence.\n\n" + table(heading, rows)
    )


def payload_section(report: dict) -> str:
    rows = [
        [
            *(str(cell[name]) for name in ("bits", "tokens", "attack", "n")),
            f"{cell['recovered']:.3f} [{cell['interval'][0]:.3f}, {cell['interval'][1]:.3f}]",
            *(
                f"{cell[name]:.4f}" if name == "bit_accuracy" else f"{cell[name]:.3f}"
                for name in ("bit_accuracy", "stated", "wrong", "detected")
            ),
        ]
        for cell in sorted(report["cells"], key=lambda cell: (cell["bits"], cell["tokens"]))
    ]
    confidence = [
        [f"{row['from']:g} … {row['to']:g}", str(row["texts"]), f"{row['mean']:.3f}", f"{row['right']:.3f}"] for row in report["confidence"]
    ]
    return (
        "## Payloads\n\nRandom payloads, ten keys, temperature 1, top-k 64, read from the text alone, "
        f"seed {report['seed']}. `recovered`: the likeliest message is the one\nsent, every bit of it (95 % interval). "
        "`stated`: the verdict says so, at p < .001 and a confidence of 95 %; `wrong`: it states another one.\n\n"
        + table(["bits", "tokens", "edit", "n", "recovered", "bit accuracy", "stated", "wrong", "detected"], rows)
        + "\n\nConfidence against the share of messages that were right, all cells together:\n\n"
        + table(["confidence", "texts", "mean", "right"], confidence)
    )


def localisation_section(report: dict) -> str:
    rows = [
        [
            f"{case['marked_tokens']} in {case['tokens']:,}",
            str(case["n"]),
            f"{case['found']:.3f} [{case['interval'][0]:.3f}, {case['interval'][1]:.3f}]",
            f"{case['median_iou']:.2f} ({case['iou_quartiles'][0]:.2f} … {case['iou_quartiles'][1]:.2f})",
        ]
        for case in report["cases"]
    ]
    alone = [
        [f"{cell['tokens']:,}", str(cell["texts"]), str(cell["verifications"]), *(str(n) for n in cell["below"].values())]
        for cell in report["alone"]
    ]
    return (
        "## Marked passages in human text\n\n"
        + table(["marked tokens", "n", "found at p < .001", "overlap (IoU), median and quartiles"], rows)
        + "\n\nHuman text alone, the full verdict (windows included): verifications with p below the rate.\n\n"
        + table(["tokens", "texts", "verifications", *(f"p < {rate}" for rate in report["alone"][0]["below"])], alone)
    )


def issuers_section(report: dict) -> str:
    return (
        "## Many issuers\n\n"
        f"{report['issuers']:,} issuers x {report['nonces']} nonces in one verification: "
        f"{report['named_rightly']} of {report['texts']} marked texts\n"
        "of 200 tokens named their issuer at p < .001 corrected for all of them. Testing takes "
        f"{report['seconds_per_text']:.2f} s per text after\nreading it, {report['ratio']:.0f} times as long as against one issuer; "
        f"expanding the keys takes {report['expanding_seconds']:.1f} s, once per set of keys."
    )


SECTIONS = {
    "false-positives.json": false_positive_section,
    "payload.json": payload_section,
    "localisation.json": localisation_section,
    "issuers.json": issuers_section,
}


def main() -> None:
    folder = default_checkpoint(DEFAULT_BASE_MODEL)
    config = read_config(folder)
    calibration = load_calibration(folder, weights_digest(folder), config.n)
    if calibration is None:
        raise SystemExit("The checkpoint has no calibration; make it with: countersign calibrate")
    FOLDER.mkdir(parents=True, exist_ok=True)
    units = 2**config.nonce_bits
    power_plot(calibration.power, units, RATE, FOLDER / "power.png")
    parts = [
        "# Calibration of the shipped checkpoint\n\nWritten by `python -m benchmarks.calibration_page`; do not edit.",
        f"Checkpoint {folder.name}. Unmarked texts by kind and length in tokens: "
        + "; ".join(
            f"{kind} {', '.join(f'{count} of {length}' for length, count in counts.items() if count)}"
            for kind, counts in calibration.made["texts"].items()  # type: ignore[attr-defined]
        )
        + ".",
        power_section(calibration, units),
    ]
    for name, section in SECTIONS.items():
        if (FOLDER / name).exists():
            report = json.loads((FOLDER / name).read_text())
            parts.append(section(report))
            if report.get("weights_sha256") != weights_digest(folder):
                parts.append("*Measured with an earlier pair than the one that ships.*")
            if name == "false-positives.json":
                false_positive_plot(report["cells"], FOLDER / "false-positives.png")
    (FOLDER / "README.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
