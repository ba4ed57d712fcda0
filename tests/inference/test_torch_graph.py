"""The step that a GPU records: the very step, without anything that a recording would freeze. (Recorded: `tests/real/test_gpu.py`.)"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fakes import fake_config
from tests.test_base_model import FAMILIES, tiny
from watermark.inference import torch_cache, torch_graph
from watermark.inference.torch_graph import RecordedSteps, StaticStep, Step
from watermark.inference.torch_running import TorchRunning
from watermark.pair import WatermarkPair, build_pair

LAYERS = (0, 1, 2)
PLAIN_ONLY = {"bloom"}
"""It makes positions of a two-dimensional mask."""


class Counted:
    """In place of a recording: the step itself, and how often one would have been made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, step: Step) -> Step:
        self.times += 1
        step()  # as a recording does: what it writes is written again
        return step


def running(family: str, record: Callable[[Step], Step] | None) -> TorchRunning:
    lm = tiny(family)
    model = TorchRunning(lm, LAYERS, nn.Identity())
    if record:
        model._recorded = RecordedSteps(lm, LAYERS, nn.Identity(), record)
    return model


def join(model: TorchRunning, prompts: list[list[int]]) -> None:
    coming = model.begin(prompts)
    while not coming.advance(hurry=True):
        pass
    model.join(coming)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - PLAIN_ONLY))
@torch.inference_mode()
def test_it_computes_what_the_plain_step_does_while_texts_come_and_go(family, monkeypatch):
    monkeypatch.setattr(torch_cache, "REBASE", 8)
    record, rng, texts = Counted(), random.Random(1), 0
    plain, static = running(family, None), running(family, record)
    for number in range(90):
        if texts < 4 and (not texts or rng.random() < 0.2):
            prompts = [[0, *rng.choices(range(5, 90), k=rng.choice([0, 2, 30]))] for _ in range(rng.randint(1, 2))]
            for model in (plain, static):
                join(model, prompts)
            texts += len(prompts)
        tokens = torch.tensor(rng.choices(range(5, 90), k=texts))
        for wanted, found in zip(plain.step(tokens), static.step(tokens), strict=True):
            assert wanted is not None and found is not None
            assert torch.allclose(wanted, found, atol=1e-4), number
        if rng.random() < 0.1:
            place = rng.randrange(texts)
            for model in (plain, static):
                model.remove(place)
            texts -= 1
    assert static.lm.recordable
    assert 2 < record.times < 45, "anew when buffers move, and only then"


@pytest.mark.parametrize("family", ["gemma3_text", "llama", "mistral"])
@torch.inference_mode()
def test_nothing_in_it_waits_for_a_value_or_brings_one(family):
    """A recording cannot stop and look; and what the host puts into a tensor stays as it was."""
    model = running(family, None)
    join(model, [[0, 7, 8, 9], [0, 7]])
    model.step(torch.tensor([5, 6]))
    model._cache.reserve(1)
    pair = build_pair(fake_config(), model.lm)
    assert isinstance(pair, WatermarkPair)
    step, asked = StaticStep(model.lm, LAYERS, pair.embedder.contexts, model._cache), []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh")):
                asked.append(func)
            return func(*args, **(kwargs or {}))

    with Watching():
        step()
    assert not asked


def fails(step: Step) -> Step:
    raise RuntimeError("operation not permitted when stream is capturing\nand a trace")


def wrong(step: Step) -> Step:
    return lambda: (torch.randn_like(step()[0]) * 9, step()[1])


def frozen(step: Step) -> Step:
    """As a recording of another device's stream is: what came out when it was made, for ever."""
    output = step()
    return lambda: output


@pytest.mark.parametrize(
    ("record", "seen_at", "reason"),
    [(fails, 0, "not permitted when stream is capturing$"), (wrong, 0, "nats away"), (frozen, 1, "nats away")],
)
@torch.inference_mode()
def test_what_cannot_be_recorded_is_stepped_through_plainly(record, seen_at, reason, monkeypatch):
    monkeypatch.setattr(torch_graph, "TRUST", 1e-6)  # a tiny model's predictions hardly differ
    plain, model = running("llama", None), running("llama", record)
    for each in (plain, model):
        join(each, [[0, 7, 8, 9]])
    for number, token in enumerate((5, 6, 7, 8)):
        tokens = torch.tensor([token])
        if number == seen_at:
            with pytest.warns(UserWarning, match=f"'llama' cannot be stepped through as a CUDA graph.*{reason}"):
                found = model.step(tokens)[0]
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = model.step(tokens)[0]
        assert torch.allclose(found, plain.step(tokens)[0], atol=1e-5), number
    assert not model.lm.recordable
    again = TorchRunning(model.lm, LAYERS, nn.Identity())
    again._recorded = RecordedSteps(model.lm, LAYERS, nn.Identity(), Counted())
    join(again, [[0, 7]])
    again.step(torch.tensor([5]))
    assert again._recorded._step is None, "the next batch does not try again"


@pytest.mark.parametrize("family", sorted(PLAIN_ONLY))
@torch.inference_mode()
def test_architectures_with_another_mask_are_found_out(family):
    plain, static = running(family, None), running(family, Counted())
    for model in (plain, static):
        join(model, [[0, 7, 8, 9], [0, 7]])
    with pytest.warns(UserWarning, match="plain|graph"):
        found = static.step(torch.tensor([5, 6]))[0]
    assert torch.allclose(found, plain.step(torch.tensor([5, 6]))[0], atol=1e-5)
    assert not static.lm.recordable
