"""The page of `benchmarks.cluster_scaling`, from its record alone: what was measured, and a model of more replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.speed.pairing import Spread

MODELLED = (1, 2, 4, 8, 16, 64)
WORK = {"verify": "texts of 200 tokens verified a second", "generate": "tokens written a second"}


@dataclass(frozen=True)
class Costs:
    """CPU seconds of one unit of work (a text verified; a token written) in each part, and what the cluster costs in a second anyhow."""

    replica: float
    ingress: float
    proxy: float
    client: float
    ray: float

    @property
    def in_front(self) -> float:
        """Of the busier of the two processes that every request passes, each of one thread."""
        return max(self.ingress, self.proxy)

    def rate(self, replicas: int, ingresses: int = 1) -> float:
        """Units a second, with a core for every process: replicas add up until what stands in front of them is busy."""
        return min(replicas / self.replica, ingresses / self.in_front)


def units(kind: str, window: dict[str, Any]) -> float:
    return window["answers"] if kind == "verify" else window["tokens"]


def rate(kind: str, window: dict[str, Any]) -> float:
    return units(kind, window) / window["seconds"]


def costs(kind: str, record: dict[str, Any]) -> Costs:
    """Medians over the rounds with one replica."""
    windows = [measured["1"][kind] for measured in record["rounds"]]

    def of_a_unit(part: str) -> float:
        return Spread.of([window["cpu_seconds"].get(part, 0.0) / units(kind, window) for window in windows]).median

    around = Spread.of([window["cpu_seconds"].get("ray", 0.0) / window["seconds"] for window in windows]).median
    return Costs(of_a_unit("replica"), of_a_unit("ingress"), of_a_unit("proxy"), of_a_unit("client"), around)


def page(record: dict[str, Any]) -> str:
    """Markdown."""
    parts = [_head(record), *(_kind(kind, record) for kind in WORK), _limits()]
    return "\n\n".join(parts) + "\n"


def _head(record: dict[str, Any]) -> str:
    cores = record["machine"]["cores"]
    return (
        "# From one replica to two, and beyond\n\nWritten by `python -m benchmarks.cluster_scaling`; do not edit.\n\n"
        f"{record['date']}, seed {record['seed']}, {cores} cores, {len(record['rounds'])} rounds, windows of {record['seconds']:g} s. "
        f"Replicas have one thread each. Clients, proxy, ingress and replicas shared the {cores} cores, so that two replicas cannot have a "
        "core each: the CPU time that a unit of work takes in each process says what they would do if they had."
    )


def _kind(kind: str, record: dict[str, Any]) -> str:
    rounds = record["rounds"]
    rates = {count: Spread.of([rate(kind, measured[count][kind]) for measured in rounds]) for count in ("1", "2")}
    ratio = Spread.of([rate(kind, measured["2"][kind]) / rate(kind, measured["1"][kind]) for measured in rounds])
    found, cores = costs(kind, record), record["machine"]["cores"]
    everything = found.replica + found.ingress + found.proxy + found.client
    bound = (cores - found.ray) / everything
    measured = _table(
        ["replicas", WORK[kind]],
        [
            ["1", _spread(rates["1"])],
            ["2", _spread(rates["2"])],
            ["2 over 1, round by round", _spread(ratio, 2)],
            [f"all that {cores} cores could do, by the CPU time below", f"{bound:.1f}"],
        ],
    )
    cost = _table(
        ["CPU milliseconds", "replica", "ingress", "proxy", "clients", "Ray itself, a second"],
        [["of each unit"] + [f"{1000 * value:.2f}" for value in (found.replica, found.ingress, found.proxy, found.client, found.ray)]],
    )
    modelled = _table(
        ["replicas, a core each", *map(str, MODELLED)],
        [
            ["one ingress", *(f"{found.rate(count):,.0f}" for count in MODELLED)],
            ["an ingress and a proxy for every eight", *(f"{found.rate(count, -(-count // 8)):,.0f}" for count in MODELLED)],
        ],
    )
    busy = 1 / found.in_front
    return (
        f"## {kind.capitalize()}\n\n{measured}\n\n{cost}\n\nModelled, {WORK[kind]}:\n\n{modelled}\n\n"
        f"One ingress is busy with {busy:,.0f} a second, which is what {busy * found.replica:,.0f} replicas do."
    )


def _limits() -> str:
    return (
        "## What the model leaves out\n\nThat replicas add up is measured for two on one machine and assumed beyond: networks between "
        "machines, the database (receipts; [capacity](capacity.md)) and Redis are not in it. Requests here were of one text, or one prompt "
        "of 64 new tokens, the smallest that a client would send; lists cost less in front."
    )


def _spread(spread: Spread, digits: int = 1) -> str:
    return f"{spread.median:.{digits}f} [{spread.low:.{digits}f}, {spread.high:.{digits}f}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
