"""Peers on our loop are what their libraries make of the same logits, and their detectors what the libraries' own say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    SynthIDTextWatermarkingConfig,
    SynthIDTextWatermarkLogitsProcessor,
    WatermarkDetector,
    WatermarkingConfig,
)
from transformers.generation.logits_process import WatermarkLogitsProcessor

from tests.fakes import fake_lm, fake_watermarked_model
from watermark.benchmark.decoding import CONTEXT, Peer, Reweighting, token_rows, write
from watermark.benchmark.kgw import kgw
from watermark.benchmark.methods import NOTHING, Order
from watermark.benchmark.ours import Ours
from watermark.benchmark.synthid import KEYS, synthid
from watermark.benchmark.textseal import textseal
from watermark.errors import InvalidInput
from watermark.sampling.requests import SamplingSettings

SAMPLING = SamplingSettings(max_new_tokens=40, top_k=24)
ORDERS = [
    Order(i, prompt, 50 + i) for i, prompt in enumerate(["The river is", "A much longer prompt than that, which is padded", "Trees and"])
]
CANDIDATES = 16
NEEDS_TEXTSEAL = "the extra countersign[benchmark]"


class Library:
    """Steps of a real processor of transformers: the whole vocabulary, in which only the candidates have not been cut away."""

    def __init__(self, processor: Callable[[Any, Any], Tensor]) -> None:
        self.processor, self.written = processor, torch.empty(len(ORDERS), 0, dtype=torch.long)

    def __call__(self, before: Tensor, ids: Tensor, probs: Tensor) -> Tensor:
        scores = torch.full((len(ids), fake_lm().vocab_size), -torch.inf).scatter(1, ids, probs.log())
        self.written = torch.cat([self.written, before if not self.written.shape[1] else before[:, -1:]], dim=1)
        return self.processor(self.written, scores).softmax(dim=1).gather(1, ids)


def own(peer: Peer) -> Reweighting:
    return peer._reweighting()


@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
def test_kgw_writes_what_the_library_would(scheme: Any) -> None:
    lm = fake_lm()
    library = Library(WatermarkLogitsProcessor(lm.vocab_size, "cpu", **WatermarkingConfig(seeding_scheme=scheme).to_dict()))
    peer = kgw(lm, scheme)
    assert peer.write(ORDERS, SAMPLING) == write(lm, ORDERS, SAMPLING, library) != write(lm, ORDERS, SAMPLING, None)


def test_synthid_writes_what_the_library_would() -> None:
    lm = fake_lm()
    config = SynthIDTextWatermarkingConfig(keys=list(KEYS), ngram_len=5)
    library = Library(SynthIDTextWatermarkLogitsProcessor(**config.to_dict(), device=torch.device("cpu")))
    assert synthid(lm).write(ORDERS, SAMPLING) == write(lm, ORDERS, SAMPLING, library) != write(lm, ORDERS, SAMPLING, None)


def test_without_a_mark_the_loop_writes_what_our_own_does() -> None:
    model = fake_watermarked_model()
    unmarked = write(model.lm, ORDERS, SAMPLING, None)
    assert unmarked == Ours(model, "", 0).write(ORDERS, SAMPLING, marked=False) == kgw(model.lm).write(ORDERS, SAMPLING, marked=False)
    assert all(len(ids) == 40 and not set(ids) & set(model.lm.end_ids) for ids in unmarked)
    alone = [write(model.lm, [order], SAMPLING, None)[0] for order in ORDERS]
    assert alone == unmarked


@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
def test_kgw_detects_as_the_library_does(scheme: Any) -> None:
    lm = fake_lm()
    peer = kgw(lm, scheme)
    texts = [lm.decode(ids) for ids in peer.write(ORDERS, SAMPLING)] + ["unmarked text " * 3, "ab"]
    config: Any = lm.model.config
    library = WatermarkDetector(config, "cpu", WatermarkingConfig(seeding_scheme=scheme))
    found = peer.detector()(texts, range(len(texts)))
    for text, one in zip(texts, found, strict=True):
        (row,) = token_rows(lm, [text])
        ids: Any = torch.tensor([row])
        expected: Any = library(ids, return_dict=True)
        assert one.score == expected.z_score[0] and one.p_value == expected.p_value[0]
    assert min(one.score for one in found[:3]) > 3.0
    assert peer.detector()(["", "a"], [0, 1]) == [NOTHING, NOTHING]


def test_synthid_scores_alone_and_among_others_alike_and_leaves_repeated_contexts_out() -> None:
    lm = fake_lm()
    peer = synthid(lm)
    texts = [lm.decode(ids) for ids in peer.write(ORDERS, SAMPLING)] + ["", "abcd", "abcde", "unmarked text, and not even short of length"]
    detector = peer.detector()
    together = [one.score for one in detector(texts, range(len(texts)))]
    assert together == pytest.approx([detector([text], [0])[0].score for text in texts])
    assert min(together[:3]) > 3.0 > abs(together[-1]) and together[3:5] == [0.0, 0.0]
    assert detector(["abcdefgh" * 30], [0])[0].score == pytest.approx(detector(["abcdefgh" * 2], [0])[0].score, rel=0.6)


def test_synthids_score_is_standard_without_a_mark() -> None:
    lm, rng = fake_lm(), np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz ,."))
    texts = ["".join(rng.choice(letters, 60)) for _ in range(400)]
    scores = [one.score for one in synthid(lm).detector()(texts, range(400))]
    assert np.mean(scores) == pytest.approx(0.0, abs=0.2) and np.std(scores) == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("kind", ["gumbelmax", "greenlist"])
def test_textseal_chooses_as_its_generators_do(kind: Any) -> None:
    pytest.importorskip("textseal", reason=NEEDS_TEXTSEAL)
    from textseal.common.watermark.core import WatermarkConfig  # pyright: ignore[reportMissingImports]
    from textseal.posthoc.generator import build_generator  # pyright: ignore[reportMissingImports]

    lm = fake_lm()
    config = WatermarkConfig(watermark_type=kind)
    generator = build_generator(lm.model, lm.tokenizer, config)
    reweight = own(textseal(lm, kind))
    drawn = torch.Generator().manual_seed(0)
    for _ in range(20):
        before = torch.randint(4, lm.vocab_size, (3, CONTEXT), generator=drawn)
        ids = torch.stack([torch.randperm(lm.vocab_size, generator=drawn)[:CANDIDATES].sort().values for _ in range(3)])
        probs = torch.rand(3, CANDIDATES, generator=drawn).softmax(dim=1)
        logits = torch.full((3, lm.vocab_size), -torch.inf).scatter(1, ids, probs.log())
        arguments = {"temperature": 1.0, "top_p": 1.0}
        if kind == "gumbelmax":
            chosen = ids.gather(1, reweight(before, ids, probs).argmax(dim=1, keepdim=True))[:, 0]
            assert torch.equal(chosen, generator.sample_next(logits, before[:, -1:], **arguments))
        else:
            _, expected = generator.sample_next(logits, before[:, -1:], return_probs=True, **arguments)
            assert torch.allclose(reweight(before, ids, probs), expected.gather(1, ids), atol=1e-6)


@pytest.mark.parametrize("kind", ["gumbelmax", "greenlist"])
def test_textseal_detects_as_the_library_does(kind: Any) -> None:
    pytest.importorskip("textseal", reason=NEEDS_TEXTSEAL)
    from textseal.common.watermark.core import WatermarkConfig  # pyright: ignore[reportMissingImports]
    from textseal.posthoc.detector import build_detector  # pyright: ignore[reportMissingImports]

    lm = fake_lm()
    peer = textseal(lm, kind)
    texts = [lm.decode(ids) for ids in peer.write(ORDERS, SAMPLING)] + ["unmarked, and of some length as well"]
    library = build_detector(lm.tokenizer, WatermarkConfig(watermark_type=kind))
    found = peer.detector()(texts, range(len(texts)))
    for text, one in zip(texts, found, strict=True):
        (scores,) = library.get_scores_by_t([text], scoring_method="v2", seen_windows=set())
        assert one.p_value == pytest.approx(library.get_pvalue(sum(scores), len(scores), eps=1e-200), rel=1e-6)
        assert one.p_value == pytest.approx(10**-one.score)
    p = [one.p_value or 1.0 for one in found]
    assert max(p[:3]) < 1e-3 < p[3]
    assert peer.detector()(["", "a"], [0, 1]) == [NOTHING, NOTHING]


def test_a_missing_textseal_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"countersign\[benchmark\]"):
        textseal(fake_lm(), "gumbelmax")
