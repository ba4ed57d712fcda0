"""What is made of one batch of texts while the next one is read."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from tests.fakes import fake_watermarked_model
from watermark.codebook.keys import IssuerKey
from watermark.errors import Cancelled
from watermark.extraction import reading
from watermark.inference.torch_lm import TorchLM

KEY = IssuerKey("acme", b"k" * 32)
TEXTS = [letter * (20 + number) for number, letter in enumerate("abcdefghij")] + ["", "the end"]


@pytest.fixture(autouse=True)
def several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_TOKENS", 64)
    monkeypatch.setattr(reading, "BATCH_TOKENS_BESIDE", 64)


@pytest.fixture(params=[False, True])
def beside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(TorchLM, "reads_beside", request.param)
    return request.param


def test_every_text_gets_its_own_verdict(beside: bool) -> None:
    model = fake_watermarked_model()
    together = model.verify(TEXTS, [KEY])
    assert [v.tokens for v in together] == [v.tokens for v in model.verdicts(model.evidence(TEXTS), [KEY])]
    for text, verdict in zip(TEXTS, together, strict=True):
        (alone,) = model.verify([text], [KEY])
        assert (verdict.tokens, verdict.verdict) == (alone.tokens, alone.verdict)
        assert verdict.p_value == pytest.approx(alone.p_value, rel=0.05)
    assert model.verify([], [KEY]) == []


def test_it_is_done_beside_the_reading_of_the_next_batch_where_there_are_cores_for_it(beside: bool) -> None:
    model, seen = fake_watermarked_model(), []

    def made_of(evidence: list) -> list[int]:
        seen.append(threading.current_thread())
        return [e.tokens for e in evidence]

    found = reading.read_evidence(model.lm, model.pair.extractor, TEXTS, model.config.query_layers, made_of)
    assert found == [len(text) for text in TEXTS]
    assert len(seen) > 3
    others = {thread for thread in seen if thread is not threading.main_thread()}
    assert len(others) == beside


def test_what_fails_there_fails_here(beside: bool) -> None:
    model = fake_watermarked_model()

    def made_of(evidence: list) -> list[int]:
        raise ArithmeticError("of the third kind")

    with pytest.raises(ArithmeticError, match="third kind"):
        reading.read_evidence(model.lm, model.pair.extractor, TEXTS, model.config.query_layers, made_of)
    assert model.verify(TEXTS[:1], [KEY])[0].tokens == 20


def test_a_call_that_is_given_up_leaves_nothing_at_work(beside: bool) -> None:
    model, working = fake_watermarked_model(), []
    calls = 0

    def made_of(evidence: list) -> list[int]:
        working.append(1)
        time.sleep(0.05)
        working.pop()
        return [0] * len(evidence)

    def on_batch() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Cancelled("nobody waits")

    with pytest.raises(Cancelled):
        reading.read_evidence(model.lm, model.pair.extractor, TEXTS, model.config.query_layers, made_of, on_batch)
    assert not working
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("beside")]


def test_evidence_is_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model, found = fake_watermarked_model(), []
    for beside in (False, True):
        monkeypatch.setattr(TorchLM, "reads_beside", beside)
        found.append(model.evidence(TEXTS))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one.per_token, two.per_token)
