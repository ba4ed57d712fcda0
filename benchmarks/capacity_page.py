"""The page of `benchmarks.capacity`, from its record alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.capacity import Assumptions, Plan, Rates, plan

TEXTS_A_DAY = tuple(10**power for power in range(4, 10))
PARTITION_ABOVE_GIB = 1024


def page(record: dict[str, Any]) -> str:
    """Markdown."""
    rates, given = Rates(**record["rates"]), Assumptions(**record["assumptions"])
    plans = [plan(texts, rates, given) for texts in TEXTS_A_DAY]
    return "\n\n".join([_head(), _measured(record, rates), _assumed(given), _arithmetic(), _plans(plans), _limits(plans)]) + "\n"


def _head() -> str:
    return (
        "# Capacity\n\nWritten by `python -m benchmarks.capacity`; do not edit. Change an assumption on its command line and read your "
        "own numbers.\n\nPlanned with the default model on CPU cores. Measure your own machine first: `python -m benchmarks.speed`."
    )


def _measured(record: dict[str, Any], rates: Rates) -> str:
    return "## Measured\n\n" + _table(
        ["what", "value", "from"],
        [
            ["marked tokens a second and core, 16 texts at once, checked", f"{rates.tokens_per_core:.0f}", "docs/speed/speed.json"],
            ["texts of 200 tokens verified a second and core, 64 at once", f"{rates.verified_per_core:.1f}", "docs/speed/speed.json"],
            ["cores and memory of a replica", f"{rates.replica_cores}; {rates.replica_mib:,.0f} MiB", "docs/speed/footprint.json"],
            [
                f"database for a receipt, with indices ({record['database']}, {record['receipts']:,} receipts, seed {record['seed']})",
                f"{rates.bytes_per_receipt:,.0f} bytes",
                "this command",
            ],
            ["receipts signed and written a second by one process", f"{rates.receipts_per_second:,.0f}", "this command"],
            ["the same on a GPU", "not measured", "no GPU was at hand"],
        ],
    )


def _assumed(given: Assumptions) -> str:
    rows = [
        ["--tokens", f"{given.tokens}", "of a text, written or verified"],
        ["--verified-per-text", f"{given.verified_per_text:g}", "texts verified for each text written"],
        ["--peak", f"{given.peak:g}", "the busiest hour over the mean one"],
        ["--utilisation", f"{given.utilisation:g}", "share of the measured rate that is planned with; above it queues grow long"],
        ["--core-hour", f"{given.core_hour:g}", "price of a core for an hour, in your currency: an assumption, no quotation"],
        ["--gib-month", f"{given.gib_month:g}", "price of a GiB of database for a month: likewise"],
        ["--receipt-days", f"{given.receipt_days}", "days that receipts are kept"],
    ]
    return "## Assumed\n\n" + _table(["option", "value", "meaning"], rows)


def _arithmetic() -> str:
    return (
        "## Arithmetic\n\n"
        "```\n"
        "texts a second   = texts a day × peak / 86,400\n"
        "cores to write   = texts a second × tokens / (tokens per core × utilisation)\n"
        "cores to verify  = texts a second × verified per text × tokens / 200 / (verified per core × utilisation)\n"
        "replicas         = (cores to write + cores to verify) / cores of a replica\n"
        "database         = texts a day × receipt days × bytes per receipt\n"
        "cost a month     = replicas × cores × 720 × core-hour + database × GiB-month\n"
        "```\n\n"
        "Cores and replicas are rounded up. Only marked texts grow the database, by one receipt each unless the request says "
        "`receipt: false`; verification stores nothing."
    )


def _plans(plans: Sequence[Plan]) -> str:
    header = ["texts a day", "cores to write", "cores to verify", "replicas", "their memory, GiB"]
    header += ["database, GiB", "receipts a second, peak", "cost a month", "cost of a million texts"]
    rows = [
        [
            *(f"{p.texts_a_day:,}", f"{p.generation_cores:,}", f"{p.verification_cores:,}", f"{p.replicas:,}", f"{p.memory_gib:,.0f}"),
            *(f"{p.database_gib:,.1f}", f"{p.receipts_a_second:,.1f}", f"{p.cost_a_month:,.0f}", f"{p.cost_per_million:,.2f}"),
        ]
        for p in plans
    ]
    return "## Plans\n\n" + _table(header, rows)


def _limits(plans: Sequence[Plan]) -> str:
    too_large = next((p for p in plans if p.database_gib > PARTITION_ABOVE_GIB), None)
    lines = [
        "## What the table does not say",
        "* The rates are those of one machine with nothing else running, and of full batches. A replica that both writes and verifies "
        "shares its cores.",
        "* The two kinds of work scale apart: verification reads three layers and keeps no state between texts, so it can run on cores "
        "that are spare ([bulk work](bulk.md)) and need not keep up with the busiest hour.",
        "* Replicas are taken to add up, which is measured from one to two ([scaling](scaling.md)). They share the database and, for "
        "request limits, Redis; neither was measured with many replicas.",
    ]
    if too_large:
        lines.append(
            f"* From {too_large.texts_a_day:,} texts a day the receipts of {too_large.receipts // too_large.texts_a_day} days are more "
            f"than {PARTITION_ABOVE_GIB:,} GiB. Countersign keeps them in one table: partition it by `created` in PostgreSQL, keep them "
            "for fewer days (`COUNTERSIGN_RECEIPT_DAYS`), or do without receipts. That was not tried."
        )
    return "\n\n".join([lines[0], "\n".join(lines[1:])])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows])
