"""Sessions: requests that come and go, pieces, stop strings, prompts that were tokenised before."""

from __future__ import annotations

import pytest

from tests.fakes import fake_watermarked_model
from watermark.codebook.keys import IssuerKey
from watermark.errors import InvalidInput
from watermark.sampling.requests import GenerationRequest, SamplingSettings

ACME = IssuerKey("acme", b"a" * 32)


def request(prompt: str | tuple[int, ...] = "Hello", tokens: int = 40, **changes) -> GenerationRequest:
    return GenerationRequest(prompt, SamplingSettings(**{"max_new_tokens": tokens, "min_new_tokens": tokens, "seed": 7, **changes}), ACME)


def test_what_joins_a_running_session_is_as_if_alone():
    model = fake_watermarked_model()
    requests = [request(f"prompt {i}", tokens=20 + 7 * i % 30, seed=i) for i in range(8)]
    alone = [model.generate([each])[0] for each in requests]
    session, admitted, steps = model.session(), [], 0
    waiting = list(requests)
    while waiting or len(session):
        if waiting and steps % 4 == 0:
            admitted += session.admit([waiting.pop(0)])
        session.step()
        steps += 1
    results = [generation.result for generation in admitted]
    for a, b in zip(alone, results, strict=True):
        assert b is not None and (a.text, a.token_ids, a.seed) == (b.text, b.token_ids, b.seed)
        assert a.marking.marked_tokens == b.marking.marked_tokens
        assert a.marking.p_value == pytest.approx(b.marking.p_value, rel=1e-2)


def test_pieces_add_up_to_the_result():
    session = fake_watermarked_model().session()
    (generation,) = session.admit([request()])
    pieces = []
    while len(session):
        pieces += [written.piece for written in session.step()]
    assert generation.result and "".join(pieces) == generation.result.text and len(pieces) == 40


def test_a_cancelled_generation_leaves_the_others_alone():
    model = fake_watermarked_model()
    (expected,) = model.generate([request("stays", seed=3)])
    session = model.session()
    gone, stays = session.admit([request("goes", tokens=100), request("stays", seed=3)])
    for _ in range(10):
        session.step()
    session.cancel(gone)
    while len(session):
        session.step()
    assert gone.result is None and stays.result and stays.result.token_ids == expected.token_ids
    session.cancel(stays)
    assert stays.result


def test_a_stop_string_ends_the_text_before_it():
    model = fake_watermarked_model()
    (full,) = model.generate([request(tokens=60)])
    stop = full.text[30:33]
    (stopped,) = model.generate([request(tokens=60, stop=(stop, "never appears"))])
    assert stopped.text == full.text[: full.text.index(stop)] and stopped.finish_reason == "stop"
    assert stopped.marking.tokens == len(stopped.token_ids) < 60
    (other,) = model.generate([request(tokens=60, stop=("never appears",))])
    assert other.text == full.text and other.finish_reason == "length"


def test_a_prompt_of_token_ids_is_the_prompt():
    model = fake_watermarked_model()
    ids = tuple(model.lm.tokenize("Hello").ids)
    assert model.generate([request(ids)])[0] == model.generate([request("Hello")])[0]
    for bad in ((10**6,), (-1,)):
        with pytest.raises(InvalidInput, match="token id"):
            model.generate([request(bad)])


@pytest.mark.parametrize("stop", [("",), ("x" * 101,), ("a",) * 9])
def test_unusable_stop_strings_are_refused(stop):
    with pytest.raises(InvalidInput, match="stop"):
        SamplingSettings(stop=stop)
