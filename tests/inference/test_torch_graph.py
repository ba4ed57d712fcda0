"""The step that a GPU records: the very step, without anything that a recording would freeze. (Recorded: `tests/real/test_gpu.py`.)"""

from __future__ import annotations

import random
import warnings

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.test_base_model import FAMILIES, tiny
from watermark.inference import torch_cache
from watermark.inference.torch_graph import RecordedSteps, StaticStep, Step
from watermark.inference.torch_running import TorchRunning

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


def running(family: str, record: Counted | None) -> TorchRunning:
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
    assert static._recorded is not None and static._recorded.trusted and not static._recorded.given_up
    assert 2 < record.times < 45, "anew when buffers move, and only then"


@pytest.mark.parametrize("family", ["gemma3_text", "llama", "mistral"])
@torch.inference_mode()
def test_nothing_in_it_waits_for_a_value(family):
    """A recording cannot stop and look; nor can it make tensors of numbers that differ from step to step."""
    model = running(family, None)
    join(model, [[0, 7, 8, 9], [0, 7]])
    model.step(torch.tensor([5, 6]))
    model._cache.reserve(1)
    step, asked = StaticStep(model.lm, LAYERS, nn.Identity(), model._cache), []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique")):
                asked.append(func)
            return func(*args, **(kwargs or {}))

    with Watching():
        step()
    assert not asked


@torch.inference_mode()
def test_what_cannot_be_recorded_is_stepped_through_plainly():
    def fails(step: Step) -> Step:
        raise RuntimeError("operation not permitted when stream is capturing\nand a trace")

    def wrong(step: Step) -> Step:
        return lambda: (torch.randn_like(step()[0]) * 9, step()[1])

    plain = running("llama", None)
    join(plain, [[0, 7, 8, 9]])
    wanted = [plain.step(torch.tensor([token]))[0] for token in (5, 6, 7)]
    for record, reason in ((fails, "not permitted when stream is capturing$"), (wrong, "nats away")):
        model = running("llama", None)
        model._recorded = RecordedSteps(model.lm, LAYERS, nn.Identity(), record)
        join(model, [[0, 7, 8, 9]])
        with pytest.warns(UserWarning, match=f"'llama' cannot be stepped through as a CUDA graph.*{reason}"):
            found = [model.step(torch.tensor([5]))[0]]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once
            found += [model.step(torch.tensor([token]))[0] for token in (6, 7)]
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(wanted, found, strict=True))


@pytest.mark.parametrize("family", sorted(PLAIN_ONLY))
@torch.inference_mode()
def test_architectures_with_another_mask_are_found_out(family):
    plain, static = running(family, None), running(family, Counted())
    for model in (plain, static):
        join(model, [[0, 7, 8, 9], [0, 7]])
    with pytest.warns(UserWarning, match="plain|graph"):
        found = static.step(torch.tensor([5, 6]))[0]
    assert torch.allclose(found, plain.step(torch.tensor([5, 6]))[0], atol=1e-5)
    assert static._recorded is not None and static._recorded.given_up
