"""From requests a day to cores, replicas, database and cost: measured rates and plain arithmetic.

    python -m benchmarks.capacity [--receipts 20000] [--database-url URL] [--out docs/scale]

Rates come from docs/speed/speed.json and memory from docs/speed/footprint.json, which `benchmarks.speed` and
`benchmarks.service_footprint` wrote; the database is measured here, by issuing receipts for texts of the length that the plan assumes
and looking at how it grows (without URL: SQLite in a temporary folder). Writes capacity.json and capacity.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text as sql

from service.storage.database import Database
from service.storage.open import Storage, open_storage

SPEED, FOOTPRINT = Path("docs/speed/speed.json"), Path("docs/speed/footprint.json")
GENERATION, VERIFICATION = "the same with the self-check, batch 16", "verification, 64 × 200 tokens"
BLOCK = 100
WORDS_PER_TOKEN = 0.75
SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class Assumptions:
    """What a plan takes as given. All of it can be changed on the command line."""

    tokens: int = 200
    """Of a text, written or verified. The speed of verification was measured at this length."""
    verified_per_text: float = 1.0
    """Texts verified for each text written."""
    peak: float = 3.0
    """The busiest hour over the mean one."""
    utilisation: float = 0.7
    """Share of a core's measured rate that is planned with: above that, queues grow long."""
    core_hour: float = 0.04
    """Price of a core for an hour, in any currency. An assumption and no quotation."""
    gib_month: float = 0.10
    """Price of a GiB of database for a month, likewise."""
    receipt_days: int = 180
    """How long receipts are kept (`COUNTERSIGN_RECEIPT_DAYS`)."""


@dataclass(frozen=True)
class Rates:
    """What was measured."""

    tokens_per_core: float
    """Marked tokens a second and core, 16 texts at once, each checked when it is finished."""
    verified_per_core: float
    """Texts of 200 tokens a second and core, 64 at once."""
    replica_cores: int
    replica_mib: float
    bytes_per_receipt: float
    """With the indices."""
    receipts_per_second: float
    """Signed and written by one process, a text at a time."""


@dataclass(frozen=True)
class Plan:
    texts_a_day: int
    generation_cores: int
    verification_cores: int
    replicas: int
    memory_gib: float
    receipts: int
    database_gib: float
    receipts_a_second: float
    """Written in the busiest hour."""
    cost_a_month: float
    cost_per_million: float
    """Of texts, each written and verified so often as assumed."""


def plan(texts_a_day: int, rates: Rates, given: Assumptions) -> Plan:
    """Cores for the busiest hour, paid for all day; receipts for as long as they are kept. A month has 30 days."""
    a_second = texts_a_day * given.peak / SECONDS_A_DAY
    generation = math.ceil(a_second * given.tokens / (rates.tokens_per_core * given.utilisation))
    per_text = given.verified_per_text * given.tokens / 200
    verification = math.ceil(a_second * per_text / (rates.verified_per_core * given.utilisation))
    replicas = math.ceil((generation + verification) / rates.replica_cores)
    receipts = texts_a_day * given.receipt_days
    gib = receipts * rates.bytes_per_receipt / 2**30
    cost = replicas * rates.replica_cores * 24 * 30 * given.core_hour + gib * given.gib_month
    memory = replicas * rates.replica_mib / 1024
    return Plan(texts_a_day, generation, verification, replicas, memory, receipts, gib, a_second, cost, cost / texts_a_day / 30 * 1e6)


@dataclass(frozen=True)
class Place:
    """The storage's settings."""

    database_url: SecretStr
    master_key: SecretStr
    master_key_file: Path | None = None


def measured(speed: dict[str, Any], footprint: dict[str, Any], bytes_per_receipt: float, receipts_per_second: float) -> Rates:
    cores = speed["machine"]["cores"]
    values = {row["measure"]: row["figures"][0]["values"] for row in speed["rows"]}
    return Rates(
        statistics.median(values[GENERATION]) / cores,
        1000 / statistics.median(values[VERIFICATION]) / cores,
        cores,
        footprint["worked_mib"]["total"],
        bytes_per_receipt,
        receipts_per_second,
    )


def database_bytes(database: Database) -> int:
    question = {
        "postgresql": "select pg_database_size(current_database())",
        "sqlite": "select (page_count - freelist_count) * page_size from pragma_page_count, pragma_freelist_count, pragma_page_size",
    }[database.dialect]
    with database.reading() as session:
        return int(session.scalar(sql(question)))


def issue(storage: Storage, receipts: int, tokens: int, seed: int) -> float:
    """Sign and keep receipts for random texts in transactions of one, as the service does. Receipts a second."""
    rng = random.Random(seed)
    words = [f"word{number}" for number in range(3000)]
    texts = [" ".join(rng.choices(words, k=round(tokens * WORDS_PER_TOKEN))) for _ in range(receipts)]
    about: dict[str, Any] = {"model": "gemma3-270m", "checkpoint": "gemma3-270m-tournament", "scheme": "countersign/tournament/2"}
    about |= {"issuer": "acme", "key_version": 1, "payload": "2a", "watermark": True, "p_value": 3.2e-17, "detector_url": None}
    began = time.monotonic()
    for number, text in enumerate(texts):
        storage.receipts.add([(storage.signer.sign(text, tokens=tokens, **about), text)], f"request-{number:012}")
    return receipts / (time.monotonic() - began)


def measure_database(url: str | None, receipts: int, tokens: int, seed: int) -> tuple[str, float, float]:
    """Its kind, bytes a receipt, receipts a second. The first `BLOCK` receipts pay for what is there once."""
    with tempfile.TemporaryDirectory() as folder:
        place = url or f"sqlite:///{folder}/capacity.db"
        storage = open_storage(Place(SecretStr(place), SecretStr(random.Random(seed).randbytes(32).hex())))
        try:
            issue(storage, BLOCK, tokens, seed)
            before = database_bytes(storage.database)
            rate = issue(storage, receipts, tokens, seed + 1)
            return storage.database.dialect, (database_bytes(storage.database) - before) / receipts, rate
        finally:
            storage.close()


def main() -> None:
    from benchmarks.capacity_page import page

    parser = argparse.ArgumentParser(description="From requests a day to cores, replicas, database and cost.")
    parser.add_argument("--receipts", type=int, default=20_000)
    parser.add_argument("--database-url", help="an empty database to fill; it is not emptied afterwards")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/scale"))
    for field in dataclasses.fields(Assumptions):
        kind = float if isinstance(field.default, float) else int
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    asked = parser.parse_args()
    given = Assumptions(**{field.name: getattr(asked, field.name) for field in dataclasses.fields(Assumptions)})
    kind, size, rate = measure_database(asked.database_url, asked.receipts, given.tokens, asked.seed)
    rates = measured(json.loads(SPEED.read_text()), json.loads(FOOTPRINT.read_text()), size, rate)
    sampling = {"database": kind, "receipts": asked.receipts, "seed": asked.seed}
    record = {**sampling, "rates": dataclasses.asdict(rates), "assumptions": dataclasses.asdict(given)}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "capacity.json").write_text(json.dumps(record, indent=2) + "\n")
    (asked.out / "capacity.md").write_text(page(record))


if __name__ == "__main__":
    main()
