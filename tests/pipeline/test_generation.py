"""Generation through the real code on the fake model: what a request gets never depends on its neighbours."""

from __future__ import annotations

import pytest
import torch

from tests.fakes import fake_watermarked_model
from watermark.codebook.keys import IssuerKey
from watermark.errors import Cancelled, InvalidInput, PromptTooLong
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import GenerationRequest, SamplingSettings

ACME = IssuerKey("acme", b"a" * 32)
BETA = IssuerKey("beta", b"b" * 32, payload_bits=8)


def settings(**changes) -> SamplingSettings:
    return SamplingSettings(**{"max_new_tokens": 40, "min_new_tokens": 40, "seed": 7, **changes})


MIXED = [
    GenerationRequest("One prompt for all.", settings(), ACME),
    GenerationRequest("One prompt for all.", settings(), BETA, payload=0x2A),
    GenerationRequest("One prompt for all.", settings(), BETA, payload=0x2B),
    GenerationRequest("One prompt for all.", settings(), ACME, strength=0.3),
    GenerationRequest("One prompt for all.", settings(), ACME, strength=0.0),
    GenerationRequest("One prompt for all.", settings(seed=8), ACME),
    GenerationRequest("Another, much longer prompt, so that rows need padding on the left.", settings(max_new_tokens=55), BETA),
    GenerationRequest("x", settings(temperature=0.6, top_k=9, top_p=0.8, max_new_tokens=20, min_new_tokens=3), ACME),
    GenerationRequest("x", settings(temperature=0.0), ACME),
]


def test_in_a_batch_equals_alone():
    model = fake_watermarked_model()
    together = model.generate(MIXED)
    alone = [model.generate([request])[0] for request in MIXED]
    for i, (a, b) in enumerate(zip(together, alone, strict=True)):
        assert a.token_ids == b.token_ids, i
        assert a.marking.marked_tokens == b.marking.marked_tokens, i
        assert (a.text, a.finish_reason, a.prompt_tokens, a.seed) == (b.text, b.finish_reason, b.prompt_tokens, b.seed)
    assert len({together[i].token_ids for i in (0, 1, 2, 3, 4, 5)}) == 6, "messages, strengths and seeds must make a difference"


@pytest.mark.parametrize("seed", range(3))
def test_strength_zero_is_the_unmarked_model(seed):
    model = fake_watermarked_model()
    off = GenerationRequest("Same words", settings(seed=seed), ACME, strength=0.0)
    plain = GenerationRequest("Same words", settings(seed=seed))
    marked = GenerationRequest("Same words", settings(seed=seed), ACME)
    assert model.generate([off])[0].token_ids == model.generate([plain])[0].token_ids
    # The off row keeps its tokens beside a marked one, where the embedder does run.
    beside = model.generate([marked, off])
    assert beside[1].token_ids == model.generate([plain])[0].token_ids
    assert beside[0].token_ids != beside[1].token_ids


def test_same_seed_same_text_and_no_seed_is_reported():
    model = fake_watermarked_model()
    first = model.generate([GenerationRequest("Again", settings(seed=None), ACME)])[0]
    again = model.generate([GenerationRequest("Again", settings(seed=first.seed), ACME)])[0]
    assert again.token_ids == first.token_ids
    assert model.generate([GenerationRequest("Again", settings(seed=None), ACME)])[0].seed != first.seed


def test_marked_text_is_found_and_only_by_its_own_key():
    model = fake_watermarked_model()
    requests = [GenerationRequest("Mark me", settings(seed=i, max_new_tokens=250, min_new_tokens=250), ACME) for i in range(6)]
    texts = [result.text for result in model.generate(requests)]
    own = model.verify(texts, [ACME])
    other = model.verify(texts, [IssuerKey("acme", b"c" * 32)])
    assert [v.verdict for v in own] == ["marked"] * 6
    assert all(v.verdict != "marked" and v.issuer is None and v.evidence is None for v in other)


def test_payload_comes_back():
    model = fake_watermarked_model()
    long = settings(max_new_tokens=400, min_new_tokens=400)
    result = model.generate([GenerationRequest("Payload", long, BETA, payload=0xC3)])[0]
    assert result.marking.payload == "c3"
    verdict = model.verify([result.text], [ACME, BETA])[0]
    assert (verdict.verdict, verdict.issuer, verdict.payload) == ("marked", "beta", "c3")
    assert verdict.candidates == 16 + 16 * 256


def test_greedy_text_says_why_it_carries_no_mark():
    model = fake_watermarked_model()
    for sampling in (settings(temperature=0.0), settings(top_k=1)):
        marking = model.generate([GenerationRequest("Greedy", sampling, ACME)])[0].marking
        assert (marking.watermark, marking.marked_tokens) == (False, 0)
        assert "greedy" in (marking.reason or "")


def test_prompt_longer_than_the_context_is_refused_before_any_work():
    model = fake_watermarked_model()
    room = model.lm.context_size - 40 - 1  # one begin-of-text token
    model.check(GenerationRequest("p" * room, settings(), ACME))
    with pytest.raises(PromptTooLong, match="at most"):
        model.check(GenerationRequest("p" * (room + 1), settings(), ACME))
    with pytest.raises(PromptTooLong):
        model.generate([GenerationRequest("fine", settings(), ACME), GenerationRequest("p" * 10_000, settings(), ACME)])


@pytest.mark.parametrize("prompt", ["", "\x00", "𝄞 emoji 🙂", "中文", "\n\n", " "])
def test_odd_prompts_are_continued(prompt):
    result = fake_watermarked_model().generate([GenerationRequest(prompt, settings(), ACME)])[0]
    assert result.marking.tokens == 40


def test_a_request_cannot_ask_for_nonsense():
    for change, named in [({"strength": 1.5}, "strength"), ({"strength": float("nan")}, "strength"), ({"payload": 1}, "payload")]:
        with pytest.raises(InvalidInput, match=named):
            GenerationRequest("x", key=ACME, **change)
    with pytest.raises(InvalidInput, match="payload"):
        GenerationRequest("x", key=BETA, payload=256)


def test_a_running_generation_can_be_cancelled():
    steps = []

    def stop(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        fake_watermarked_model().generate([GenerationRequest("Stop", settings(), ACME)], on_step=stop)
    assert steps == [(1, 40), (2, 40), (3, 40)]


def test_conditioning_leaves_no_trace_on_the_model():
    """What a layer kept from one call would show in the next."""
    model = fake_watermarked_model()
    before = {k: v.clone() for k, v in model.pair.state_dict().items()}
    plain = model.generate([GenerationRequest("Trace", settings())])[0]
    model.generate(MIXED)
    assert model.generate([GenerationRequest("Trace", settings())])[0].token_ids == plain.token_ids
    assert all(torch.equal(before[k], v) for k, v in model.pair.state_dict().items())
    assert isinstance(model, WatermarkedModel)
