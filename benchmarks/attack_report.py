"""The numbers of `benchmarks.secret_safety` as Markdown and as a plot, so that no number of docs/secret-safety.md is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluation_page import table

MARKS = "<!-- measured: {} -->"


def tables(report: dict[str, Any]) -> str:
    """All numbers of a report as Markdown."""
    settings = report["settings"]
    head = (
        f"Preset {settings['preset']}: "
        f"{settings['base_model']}, {settings['checkpoint']}, texts of {settings['tokens']} tokens, temperature 1, top-k 64, seed "
        f"{settings['seed']}; a forgery counts at p < {settings['false_positive_rate']:g}, corrected for all nonces; intervals are 95 %. "
        f"{settings['date']}, {report['seconds']:,.0f} s of CPU time."
    )
    blind = report["blind"]
    parts = [
        head,
        f"**No marked text seen.** Coherence of a text with itself, {blind['marked']} marked against {blind['unmarked']} unmarked texts: "
        f"AUC {_with(blind['auc'], blind['auc_interval'])}; found at 1 % false alarms "
        f"{_with(blind['found'], blind['found_interval'])}.",
        "**Forgeries written by the model** ("
        + ", ".join(f"{row['texts']} texts: mean z {row['z']:.2f}" for row in report["marks"] if "z" in row)
        + "; perplexity of a few texts: "
        + ", ".join(f"{row['texts']} {row['perplexity']:.1f}" for row in report["marks"])
        + ")",
        table(
            ["attacker has", "nonces", "texts seen", "push", "n", "forged", "by `verify`", "median p", "mean z", "perplexity"],
            [
                [
                    r["knowledge"],
                    str(2 ** r["nonce_bits"]),
                    _seen(r),
                    f"{r['push']:g}",
                    str(r["n"]),
                    _with(r["forged"], r["forged_interval"]),
                    "–" if r["front_door"] is None else f"{r['front_door']:.3f}",
                    f"{r['median_p']:.0e}",
                    f"{r['z']:.1f}",
                    "–" if r["perplexity"] is None else f"{r['perplexity']:.1f}",
                ]
                for r in report["written"]
            ],
        ),
        "**Simulated attacks, with the checkpoint**: share of forgeries (push 1) that verify, and marked texts told from others at 1 % "
        "false alarms",
        table(
            ["nonces", "texts seen", "source", "forged", "told from unmarked", "told from other issuers'", "AUC, unmarked / issuers'"],
            [_simulated_row(r) for r in report["simulated"] if r["knowledge"] == "checkpoint"],
        ),
        "**Simulated attacks, private pair, token codes alone**",
        table(
            ["nonces", "texts seen", "source", "forged", "told from unmarked", "told from other issuers'", "AUC, unmarked / issuers'"],
            [_simulated_row(r) for r in report["simulated"] if r["knowledge"] == "codes"],
        ),
        "**Reading marked texts with another pair**: z of the true codeword, and AUC of coherence, marked against unmarked",
        table(
            ["pair", "n", "mean z", "AUC of coherence"],
            [
                [r["pair"], str(r["n"]), _with(r["z"], r["z_interval"], 2), _with(r["auc"], r["auc_interval"]) if "auc" in r else "–"]
                for r in report["guessed_pairs"]
            ],
        ),
        "**Questions to a public verifier** (median, quartiles): until a text is called marked, knowing nothing; and until half of the "
        "forgeries verify, with the checkpoint",
        table(
            ["nonces", "answers", "attacks", "until one text is marked", "until the codeword is known"],
            [
                [str(2 ** r["nonce_bits"]), r["answers"], str(r["attacks"]), _asked(r["climb"]), _asked(r["recover"])]
                for r in report["oracle"]
            ],
        ),
    ]
    return "\n\n".join(parts)


def _simulated_row(row: dict[str, Any]) -> list[str]:
    unmarked, others = row["from_unmarked"], row["from_other_issuers"]
    return [
        str(2 ** row["nonce_bits"]),
        str(row["texts"]),
        row["source"],
        _with(row["forged"], row["forged_interval"]) if "forged" in row else "–",
        _with(unmarked["found"], unmarked["found_interval"]),
        _with(others["found"], others["found_interval"]),
        f"{unmarked['auc']:.3f} / {others['auc']:.3f}",
    ]


def _seen(row: dict[str, Any]) -> str:
    return f"{row['texts']} ({row['source']})"


def _with(value: float, interval: Sequence[float], digits: int = 3) -> str:
    return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _asked(found: dict[str, Any]) -> str:
    def count(value: int | None) -> str:
        return f"over {found['limit']:,}" if value is None else f"{value:,}"

    return f"{count(found['median'])} ({count(found['lower_quartile'])} … {count(found['upper_quartile'])})"


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page. Raises ValueError where they are missing."""
    begin, end = MARKS.format("begin"), MARKS.format("end")
    content = page.read_text(encoding="utf-8")
    head, found, rest = content.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no {begin} … {end}")
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")


def plot(report: dict[str, Any], path: Path) -> None:
    """Write a PNG: forgeries and texts told apart by the number of texts seen. Lines are re-signed, crosses generated, dots written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    rows = [row for row in report["simulated"] if row["knowledge"] == "checkpoint"]
    for colour, bits in enumerate(sorted({row["nonce_bits"] for row in rows})):
        for source, style in (("re-signed", "-"), ("generated", "x")):
            own = [row for row in rows if row["nonce_bits"] == bits and row["source"] == source]
            texts, label = [row["texts"] for row in own], f"{2**bits} codewords" if source == "re-signed" else None
            panels[0].plot(texts, [row["forged"] for row in own], style, color=f"C{colour}", label=label)
            panels[1].plot(texts, [row["from_unmarked"]["found"] for row in own], style, color=f"C{colour}", label=label)
        for row in report["written"]:
            if row["nonce_bits"] == bits and row["knowledge"] == "checkpoint":
                low, high = row["forged_interval"]
                error = [[row["forged"] - low], [high - row["forged"]]]
                marker = "o" if row["push"] == 1 else "^"
                panels[0].errorbar(row["texts"], row["forged"], yerr=error, fmt=marker, color=f"C{colour}", markersize=5, capsize=2)
    panels[1].axhline(report["blind"]["found"], color="black", linestyle=":", label="no marked text seen")
    for panel, name in zip(panels, ("forgeries that verify (triangles: pushed)", "marked texts found at 1 % false alarms"), strict=True):
        panel.set_xscale("log", base=2)
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlabel("marked texts of the issuer seen")
        panel.set_title(name, fontsize="medium")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=150)
