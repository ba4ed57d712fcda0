"""What Prometheus reads at /metrics: a registry of this app, filled as requests end and, for the engine's state, at scrape time.

Labels have few values each: no address, no issuer, no key.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_fastapi_instrumentator import Instrumentator

from service.engine.protocol import Engine, Ticket
from watermark.sampling.requests import GenerationResult
from watermark.statistics.verdict import Verdict

NAMESPACE = "countersign"
PROBES = ["^/livez$", "^/readyz$", "^/metrics$"]
QUEUE_BUCKETS = (0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
WORK_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
WATCHED_CODES = ("queue_full", "storage_unavailable", "worker_died", "load_failed")
"""Codes that alerts ask for. They are there from the start: Prometheus' increase() does not see a counter that appears at 1."""
VERIFY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One per app, so that several can live in one process."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_EngineState(engine))
        common: Any = {"namespace": NAMESPACE, "registry": self.registry}
        self._generated = Counter("generated_tokens_total", "New tokens written.", **common)
        self._prompts = Counter("prompt_tokens_total", "Tokens of prompts that were continued.", **common)
        self._verified = Counter("verified_tokens_total", "Tokens of texts that were verified.", **common)
        self._queue = Histogram(
            "queue_seconds", "Wait of a prompt or a verification for its turn.", ["kind"], buckets=QUEUE_BUCKETS, **common
        )
        self._first_token = Histogram("first_token_seconds", "From submission to the first token.", buckets=QUEUE_BUCKETS, **common)
        self._generation = Histogram("generation_seconds", "From a text's turn to its end.", buckets=WORK_BUCKETS, **common)
        self._verification = Histogram(
            "verification_seconds", "From submission of a verification to its verdicts.", buckets=VERIFY_BUCKETS, **common
        )
        self._verdicts = Counter("verdicts_total", "Texts verified, by verdict.", ["verdict"], **common)
        self._refused = Counter("refused_total", "Error answers, by the code of the problem.", ["code"], **common)
        self._internal = Counter("internal_errors_total", "Errors that only the operator can mend (status 500), of any code.", **common)
        for code in WATCHED_CODES:
            self._refused.labels(code)
        for kind in ("generate", "verify"):
            self._queue.labels(kind)
        for verdict in ("marked", "not_detected", "insufficient_text"):
            self._verdicts.labels(verdict)

    def instrument(self, app: FastAPI) -> None:
        """Count HTTP requests by route template and status. Adds a middleware."""
        instrumentator = Instrumentator(registry=self.registry, should_group_status_codes=False, excluded_handlers=PROBES)
        instrumentator.instrument(app)

    def generated(self, ticket: Ticket, result: GenerationResult) -> None:
        self._generated.inc(len(result.token_ids))
        self._prompts.inc(result.prompt_tokens)
        now = time.monotonic()
        started = ticket.started or ticket.submitted
        self._queue.labels("generate").observe(max(0.0, started - ticket.submitted))
        if ticket.first_token is not None:
            self._first_token.observe(max(0.0, ticket.first_token - ticket.submitted))
        self._generation.observe(max(0.0, (ticket.finished or now) - started))

    def verified(self, ticket: Ticket, verdicts: Sequence[Verdict]) -> None:
        started = ticket.started or ticket.submitted
        self._queue.labels("verify").observe(max(0.0, started - ticket.submitted))
        self._verification.observe(max(0.0, (ticket.finished or time.monotonic()) - ticket.submitted))
        for verdict in verdicts:
            self._verdicts.labels(verdict.verdict).inc()
            self._verified.inc(verdict.tokens)

    def refused(self, code: str, status: int) -> None:
        self._refused.labels(code).inc()
        if status == 500:
            self._internal.inc()

    def exposition(self) -> bytes:
        return generate_latest(self.registry)


class _EngineState:
    """Read when asked: the engine's numbers are a moment's state."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        stats = self._engine.stats()
        for name, about, value in (
            ("running_prompts", "Prompts in the running batch.", stats.running_prompts),
            ("waiting_prompts", "Prompts in the queue.", stats.waiting_prompts),
            ("waiting_texts", "Texts in the queue of the verification.", stats.waiting_texts),
            ("queued_tokens", "Tokens, prompt and new ones, in the queue.", stats.queued_tokens),
        ):
            yield GaugeMetricFamily(f"{NAMESPACE}_{name}", about, value=value)
        restarts = CounterMetricFamily(f"{NAMESPACE}_worker_restarts", "Workers started again.", value=stats.restarts)
        yield restarts

    def describe(self) -> Iterable[Metric]:
        return []  # else the registry would collect at registration, before the engine is there
