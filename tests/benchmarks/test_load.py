"""The pure parts of the load test: what its clients send, and what it makes of the answers. Its run is a measurement, not a test."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from benchmarks.load_plan import LIST_LENGTHS, NEW_TOKENS, THINKING, WORDS, Generate, Plan, Pool, Verify
from benchmarks.load_summary import Record, Sample, correctness, latencies, memory, requests, saturation
from benchmarks.load_texts import prose

MIB = 2**20


@pytest.mark.parametrize("words", [1, 50, 137, 250])
def test_prose_has_the_wanted_length_and_follows_from_its_seed(words: int) -> None:
    text = prose(Random(1), words)
    assert len(text.split()) == words and text.endswith(".")
    assert text == prose(Random(1), words) != prose(Random(2), words)


def test_a_plan_follows_from_its_seed_and_client() -> None:
    def steps(seed: int, client: int) -> list[Generate | Verify]:
        plan = Plan(seed, client, 0.6, Pool())
        return [plan.next() for _ in range(20)]

    assert steps(1, 3) == steps(1, 3)
    assert steps(1, 3) != steps(1, 4) and steps(1, 3) != steps(2, 3)


def test_the_kinds_of_step_do_not_depend_on_what_was_written_meanwhile() -> None:
    empty, filled = Pool(), Pool()
    filled.add("a text that the service wrote")
    kinds = [[step.kind for step in (plan.next() for _ in range(50))] for plan in (Plan(1, 3, 0.6, empty), Plan(1, 3, 0.6, filled))]
    assert kinds[0] == kinds[1]


def test_a_plan_mixes_what_it_should() -> None:
    pool = Pool()
    pool.add("a text that the service wrote")
    plan = Plan(1, 0, 0.6, pool)
    steps = [plan.next() for _ in range(4000)]
    assert isinstance(steps[0], Generate)
    kinds = Counter(step.kind for step in steps)
    assert set(kinds) == {"generate", "generate_stream", "generate_left", "verify_single", "verify_list"}
    verified = [step for step in steps if isinstance(step, Verify)]
    assert len(verified) / len(steps) == pytest.approx(0.6, abs=0.03)
    texts = [text for step in verified for text in step.texts]
    assert sum(text.marked for text in texts) / len(texts) == pytest.approx(0.5, abs=0.03)
    assert all(WORDS[0] <= len(text.text.split()) <= WORDS[1] for text in texts if not text.marked)
    assert {len(step.texts) for step in verified} == {1, *range(LIST_LENGTHS[0], LIST_LENGTHS[1] + 1)}
    generated = [step for step in steps if isinstance(step, Generate)]
    assert {min(step.new_tokens for step in generated), max(step.new_tokens for step in generated)} == set(NEW_TOKENS)
    assert all(step.leave_after is None or (step.stream and step.leave_after <= step.new_tokens // 2) for step in generated)
    assert THINKING[0] <= plan.pause() <= THINKING[1]


def test_only_refusals_with_a_time_to_come_again_are_announced() -> None:
    record = Record()
    assert record.refused("generate", 503, "queue_full", "7") == 7.0
    assert record.refused("generate", 429, "rate_limited", "1") == 1.0
    for status, retry_after in ((503, None), (503, "soon"), (503, "0"), (500, "7"), (422, None)):
        assert record.refused("verify_single", status, "code", retry_after) is None
    assert record.refusals == {"queue_full": 1, "rate_limited": 1}
    assert record.errors.total() == 5
    record.failed("generate", "ConnectionError")
    record.answered("generate", 200, 1.0)
    assert requests(record) == {"generate": {"200": 1, "429": 1, "503": 1, "failed": 1}, "verify_single": {"422": 1, "500": 1, "503": 3}}


def test_latencies_are_in_milliseconds() -> None:
    assert latencies([]) == {"count": 0}
    assert latencies([index / 100 for index in range(101)]) == {"count": 101, "p50": 500.0, "p95": 950.0, "p99": 990.0, "max": 1000.0}


def test_memory_at_minute_one_and_at_the_end() -> None:
    growing = [Sample(float(at), 16, 1, (100 + at) * MIB) for at in range(0, 182, 2)]
    assert memory(growing, 60.0) == {
        "minute_one_mib": 160.0,
        "end_mib": 275.0,
        "highest_mib": 280.0,
        "end_over_minute_one": 1.7188,
        "every_half_minute_mib": [102, 130, 160, 190, 220, 250, 278],
    }
    assert memory([], 60.0) == {}
    assert memory(growing[:1], 60.0)["end_over_minute_one"] == 1.0


def test_saturation_leaves_out_the_beginning() -> None:
    samples = [Sample(0.0, 3, 0, 0), Sample(10.0, 16, 5, 0), Sample(20.0, 15, 0, 0)]
    assert saturation(samples, 16, since=5.0) == {"full_batch": 0.5, "queue_not_empty": 0.5}
    assert saturation(samples, 16, since=100.0) == {}


def test_verdicts_are_held_against_the_origin() -> None:
    record = Record()
    for marked, verdict in (
        (True, "marked"),
        (True, "not_detected"),
        (False, "not_detected"),
        (False, "insufficient_text"),
        (False, "marked"),
    ):
        record.judged(marked, verdict)
    assert correctness(record) == {"marked_texts": 2, "marked_found": 1, "unmarked_texts": 3, "unmarked_called_marked": 1}
