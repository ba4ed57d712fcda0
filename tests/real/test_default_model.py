"""Real text through the real default model and its shipped checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from watermark.codebook.codewords import codeword
from watermark.codebook.keys import IssuerKey
from watermark.embedding.conditioning import Conditioning
from watermark.embedding.repeats import ContextMemory
from watermark.pipeline import WatermarkedModel
from watermark.sampling.candidates import BatchSettings, select_candidates
from watermark.sampling.requests import GenerationRequest, SamplingSettings
from watermark.statistics.rademacher import RademacherTail

PROMPTS = [
    "The history of the bicycle begins in",
    "Doctors recommend that people with high blood pressure",
    "She opened the door, and to her surprise",
    "The committee announced on Tuesday that",
    "To bake good bread at home you need",
    "In economics, the word inflation means",
    "The small town by the river had always",
    "Researchers have found that sleep",
]
KEYS = [IssuerKey(f"issuer-{i}", bytes([i + 1]) * 32) for i in range(4)]


@pytest.fixture(scope="module")
def texts(real_model: WatermarkedModel) -> dict[str, list[str]]:
    """100 new tokens after each prompt, marked by several issuers and unmarked, with the same seeds, in one batch."""
    sampling = [SamplingSettings(max_new_tokens=100, min_new_tokens=100, seed=i) for i in range(len(PROMPTS))]
    marked = [GenerationRequest(p, s, KEYS[i % len(KEYS)]) for i, (p, s) in enumerate(zip(PROMPTS, sampling, strict=True))]
    plain = [GenerationRequest(p, s) for p, s in zip(PROMPTS, sampling, strict=True)]
    results = [r.text for r in real_model.generate([*marked, *plain])]
    return {"marked": results[: len(PROMPTS)], "plain": results[len(PROMPTS) :]}


def test_marks_are_found_and_name_their_issuer(real_model, texts):
    """Expected to miss 1 or 2 texts in 100 at most; of eight, one may be lost here before it means that something broke."""
    verdicts = real_model.verify(texts["marked"], KEYS)
    found = [v for v in verdicts if v.verdict == "marked"]
    assert len(found) >= len(PROMPTS) - 1, [v.p_value for v in verdicts]
    assert all(v.issuer == KEYS[i % len(KEYS)].name for i, v in enumerate(verdicts) if v.verdict == "marked")
    assert float(np.median([v.p_value for v in verdicts])) < 1e-6


def test_unmarked_model_text_and_human_text_are_not(real_model, texts, human_passages):
    verdicts = real_model.verify([*texts["plain"], *human_passages], KEYS)
    # 68 texts at a false-positive rate of 0.001: two detections have a probability of 0.002.
    assert sum(v.verdict == "marked" for v in verdicts) <= 1, sorted(v.p_value for v in verdicts)[:3]


def test_marks_survive_light_editing(real_model, texts):
    rng = np.random.default_rng(0)
    edited = [" ".join(w for w in text.split(" ") if rng.random() > 0.1) for text in texts["marked"]]
    half = [text[len(text) // 2 :] for text in texts["marked"]]
    assert sum(v.verdict == "marked" for v in real_model.verify(edited, KEYS)) >= len(PROMPTS) // 2
    assert float(np.median([v.p_value for v in real_model.verify(half, KEYS)])) < 0.05


def test_a_marked_passage_in_human_text_is_found_and_placed(real_model, texts, human_passages):
    """100 marked tokens in some 700, of which the whole-text test alone sees little."""
    overlaps = []
    for i, marked in enumerate(texts["marked"][:4]):
        before, after = " ".join(human_passages[6 * i : 6 * i + 3]), " ".join(human_passages[6 * i + 3 : 6 * i + 6])
        verdict = real_model.verify([f"{before} {marked} {after}"], KEYS)[0]
        for segment in verdict.segments:
            start, end = len(before) + 1, len(before) + 1 + len(marked)
            common = max(0, min(segment.end, end) - max(segment.start, start))
            if segment.issuer == KEYS[i].name:
                overlaps.append(common / (max(segment.end, end) - min(segment.start, start)))
    assert len(overlaps) >= 3 and float(np.median(overlaps)) > 0.7, overlaps


def test_a_message_is_read_back_from_the_text(real_model):
    """16 bits in 100 tokens: .99 of 200 texts when measured; of six, one may be lost."""
    key = IssuerKey("messenger", bytes(range(32)), payload_bits=16)
    sampling = [SamplingSettings(max_new_tokens=100, min_new_tokens=100, seed=i) for i in range(6)]
    sent = [0xBEEF ^ (i << 4) for i in range(6)]
    requests = [GenerationRequest(p, s, key, m) for p, s, m in zip(PROMPTS[:6], sampling, sent, strict=True)]
    results = real_model.generate(requests)
    verdicts = real_model.verify([r.text for r in results], [key])
    read = [None if v.payload is None else int(v.payload, 16) for v in verdicts]
    assert sum(r == m for r, m in zip(read, sent, strict=True)) >= 5
    assert all(r in (None, m) for r, m in zip(read, sent, strict=True))  # an erasure, never another message
    assert sum(r.marking.watermark for r in results) >= 5


def test_the_shipped_calibration(real_model, texts, human_passages):
    """It belongs to the weights, fresh keys are sound with it, and reported p-values are never below the exact ones."""
    assert real_model.calibration is not None
    rng = np.random.default_rng(0)
    assert sum(real_model.calibration.health(IssuerKey("k", rng.bytes(32)), real_model.config.nonce_bits).ok for _ in range(20)) >= 18
    verdicts = real_model.verify([*human_passages, *texts["plain"]], KEYS)
    assert all(v.p_value >= v.exact_p_value for v in verdicts) and any(v.p_value > v.exact_p_value for v in verdicts)
    assert real_model.verify(["Far too short to tell."], KEYS)[0].verdict == "insufficient_text"
    assert all(v.expected_detection is not None and v.expected_detection > 0.9 for v in verdicts)


def test_p_values_are_uniform_on_human_text_over_random_keys(real_model, human_passages):
    """60 passages x 100 random keys. The reported p-value is an upper bound that is at most a few per cent high."""
    n = real_model.config.n
    rng = np.random.default_rng(0)
    pooled = []
    for evidence in real_model.evidence(human_passages):
        total = evidence.total()
        signs = np.stack([codeword(IssuerKey("k", rng.bytes(32)), 0, 0, 0, n) for _ in range(100)]).astype(np.float64)
        pooled.append(RademacherTail(total).pvalue(signs @ total))
    p = np.concatenate(pooled)
    distance = float(stats.kstest(p, "uniform").statistic)
    assert distance < 1.95 / np.sqrt(len(p)) + 0.005, distance  # 1.95/sqrt(n): a true uniform exceeds it once in 1,000 runs
    assert float((p < 0.01).mean()) < 0.01 + 4 * np.sqrt(0.01 * 0.99 / len(p))


@torch.inference_mode()
def test_distortion_freeness_on_the_real_model(real_model):
    """8,192 random codewords at full size: the mean of the marked distribution is the model's within sampling error.

    (The exact sum over all codewords, to 1e-6, is tests/embedding/test_distortion_freeness.py; 2^1024 are out of reach here.)
    """
    lm, pair = real_model.lm, real_model.pair
    running = lm.running(pair.config.query_layers, pair.embedder.contexts)
    ids = lm.tokenize("The weather in the mountains can").ids
    coming = running.begin([ids])
    while not coming.advance(hurry=True):
        pass
    running.join(coming)
    logits, attention = running.step(torch.tensor(ids[-1:]))
    sampling = SamplingSettings(temperature=1.0, top_k=64, top_p=0.95)
    candidates, probs = select_candidates(logits, BatchSettings.stack([sampling], lm.vocab_size))
    generator = torch.Generator().manual_seed(0)
    codewords = torch.randint(0, 2, (8192, pair.config.n), generator=generator).float() * 2 - 1
    sums, squares = torch.zeros(probs.shape[1], dtype=torch.float64), torch.zeros(probs.shape[1], dtype=torch.float64)
    for signs in codewords.split(512):
        rows = len(signs)
        conditioning = Conditioning(signs, torch.ones(rows))
        wide = attention.expand(rows, -1, -1), candidates.expand(rows, -1), probs.expand(rows, -1)
        memory = ContextMemory(rows, 1, pair.config.n)
        reweighted, marked = pair.embedder(*wide, conditioning, memory)
        assert bool(marked.all())
        sums += reweighted.double().sum(dim=0)
        squares += reweighted.double().square().sum(dim=0)
    count = len(codewords)
    mean = sums / count
    error = ((squares / count - mean**2) / count).clamp(min=0).sqrt()
    # A rarer candidate can gain several hundredfold, so rarely that its mean over so many codewords is not yet normal.
    z = ((mean - probs[0].double()) / error.clamp(min=1e-9))[probs[0] > 1e-2]
    assert len(z) > 5
    assert float(z.abs().max()) < 4.5, float(z.abs().max())
    assert float(error.max()) < 0.01
