"""What the kinds that act inside the model owe to it and to each other's messages."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from tests.residual.conftest import KINDS, LAYERS, small
from watermark import GenerationRequest, IssuerKey, SamplingSettings
from watermark.base_model import FrozenLM
from watermark.checkpoint import load_pair, save_pair
from watermark.embedding.conditioning import Conditioning
from watermark.errors import BaseModelError
from watermark.inference.steering import resumed, steered
from watermark.inference.torch_lm import TorchLM
from watermark.pair import ResidualPair, build_pair
from watermark.pipeline import WatermarkedModel
from watermark.sampling.decode import Row, RunningBatch, decode

IDS = torch.randint(4, 90, (1, 24), generator=torch.Generator().manual_seed(3))
SIGNS = torch.randint(0, 2, (3, 16), generator=torch.Generator().manual_seed(4)).float() * 2 - 1


def parts(model: WatermarkedModel) -> tuple[TorchLM, ResidualPair]:
    assert isinstance(model.lm, TorchLM) and isinstance(model.pair, ResidualPair)
    return model.lm, model.pair


@torch.inference_mode()
def logits(model: WatermarkedModel, signs: Tensor | None, strength: float | Tensor = 1.0) -> Tensor:
    """Of IDS, once for each row of `signs`."""
    lm, pair = parts(model)
    if signs is None:
        return lm.model(input_ids=IDS).logits
    strengths = torch.as_tensor(strength).expand(len(signs))
    with steered(pair.embedder.intervention(Conditioning(signs, strengths))):
        return lm.model(input_ids=IDS.expand(len(signs), -1)).logits


def test_base_on_off_on(model: WatermarkedModel) -> None:
    base = logits(model, None)
    on = logits(model, SIGNS[:1])
    assert not torch.allclose(on, base, atol=0.05), "the mark changes the model"
    assert torch.equal(logits(model, None), base), "and nothing of it is left"
    assert torch.equal(logits(model, SIGNS[:1], 0.0), base), "nor does a strength of 0 change a bit"
    assert torch.equal(logits(model, SIGNS[:1]), on)
    half = logits(model, SIGNS[:1], 0.5)
    assert 0 < (half - base).norm() < (on - base).norm()


def test_the_model_s_own_weights_stay_frozen_and_untouched(model: WatermarkedModel) -> None:
    lm, pair = parts(model)
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    pair.requires_grad_(True)
    with steered(pair.embedder.intervention(Conditioning(SIGNS, torch.ones(3)))):
        lm.model(input_ids=IDS.expand(3, -1)).logits.square().mean().backward()
    pair.requires_grad_(False)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in lm.model.parameters())
    assert all(torch.equal(before[name], value) for name, value in lm.model.state_dict().items())
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in pair.embedder.parameters())


def test_messages_in_one_batch_are_each_as_if_alone(model: WatermarkedModel) -> None:
    together = logits(model, torch.cat([SIGNS, SIGNS[:1]]), torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert not torch.allclose(together[0], together[1], atol=0.01), "another message, another mark"
    for row in (0, 1, 3):
        assert torch.allclose(together[row], logits(model, torch.cat([SIGNS, SIGNS[:1]])[row : row + 1])[0], atol=1e-4)
    assert torch.allclose(together[2], logits(model, None)[0], atol=1e-4)


def test_two_threads_do_not_see_each_other_s_message(model: WatermarkedModel) -> None:
    lm, pair = parts(model)
    alone = [logits(model, SIGNS[i : i + 1]) for i in range(2)]
    base = logits(model, None)
    inside, found = threading.Barrier(3), {}

    def work(row: int | None) -> None:
        signs = None if row is None else pair.embedder.intervention(Conditioning(SIGNS[row : row + 1], torch.ones(1)))
        with torch.inference_mode(), steered(signs):
            inside.wait(5)  # all three calls are open before any of them computes
            found[row] = lm.model(input_ids=IDS).logits
            inside.wait(5)

    threads = [threading.Thread(target=work, args=(row,)) for row in (0, 1, None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert torch.allclose(found[0], alone[0], atol=1e-5) and torch.allclose(found[1], alone[1], atol=1e-5)
    assert torch.allclose(found[None], base, atol=1e-5)


def row(prompt: int, seed: int, signs: Tensor | None, strength: float = 1.0, tokens: int = 20) -> Row:
    ids = torch.randint(4, 90, (prompt,), generator=torch.Generator().manual_seed(seed)).tolist()
    uniforms = torch.rand(tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Row(ids, SamplingSettings(max_new_tokens=tokens, min_new_tokens=tokens), uniforms, signs, strength)


@torch.inference_mode()
def test_cached_decoding_sees_what_the_full_forward_sees(model: WatermarkedModel) -> None:
    lm, pair = parts(model)
    batch = RunningBatch(lm, pair.embedder, pair.config.query_layers)
    seen: list[Tensor] = []
    step = batch._model.step

    def recording(tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        found, states = step(tokens)
        seen.append(found.clone())
        return found, states

    batch._model.step = recording
    rows = [row(9, 1, SIGNS[0]), row(3, 2, SIGNS[1]), row(14, 3, None)]
    batch.admit(rows, hurry=True)
    while len(batch):
        batch.step()
    for place, each in enumerate(rows):
        strength = torch.tensor([0.0 if each.signs is None else 1.0])
        marking = pair.embedder.intervention(Conditioning(SIGNS[place : place + 1], strength))
        with steered(marking):
            full = lm.model(input_ids=torch.tensor([each.prompt_ids + each.ids])).logits[0]
        for at, found in enumerate(seen[: len(each.ids)]):
            # End-of-text tokens are taken out of the logits until a text may end.
            assert torch.allclose(found[place][2:], full[len(each.prompt_ids) - 1 + at][2:], atol=1e-3)
        assert each.marked == (0 if each.signs is None else len(each.ids))


def test_rows_that_come_and_go_are_written_as_if_alone(model: WatermarkedModel) -> None:
    lm, pair = parts(model)

    def make() -> list[Row]:
        return [row(2 + 5 * i % 17, i, None if i == 2 else SIGNS[i % 3], tokens=6 + 3 * i) for i in range(6)]

    alone = [decode(lm, pair.embedder, [each], pair.config.query_layers)[0].ids for each in make()]
    batch, waiting = RunningBatch(lm, pair.embedder, pair.config.query_layers), make()
    together = list(waiting)
    while waiting or len(batch):
        if waiting:
            batch.admit([waiting.pop(0)])
        batch.step()
        batch.step()
    assert [each.ids for each in together] == alone


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_reloaded_is_the_same(kind: str, tmp_path) -> None:
    from tests.fakes import fake_lm

    lm = fake_lm()
    pair = build_pair(small(kind), lm, seed=5).eval()
    save_pair(pair, lm, tmp_path / "a")
    first = load_pair(tmp_path / "a", lm)
    save_pair(first, lm, tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    for a, b in zip(pair.state_dict().values(), first.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)  # half precision
    assert first.config.kind == kind


def test_generation_and_verification_go_through_the_same_door_as_ever(model: WatermarkedModel) -> None:
    key = IssuerKey("acme", b"k" * 32)
    settings = SamplingSettings(max_new_tokens=30, min_new_tokens=30, seed=5)
    marked, plain, off = (
        model.generate([GenerationRequest("The harbour", settings, key=k, strength=s)])[0] for k, s in ((key, 1.0), (None, 1.0), (key, 0.0))
    )
    assert marked.marking.marked_tokens == 30 and plain.token_ids == off.token_ids != marked.token_ids
    tokens = model.lm.tokenize(marked.text)
    assert model.verify([marked.text], [key])[0].tokens == len(tokens.ids) - tokens.prefix > 20


def test_a_backend_with_a_fixed_graph_is_refused() -> None:
    class Fixed(FrozenLM):
        backend, name = "openvino", "fixed"
        __abstractmethods__ = frozenset()

    Fixed.__abstractmethods__ = frozenset()
    with pytest.raises(BaseModelError, match="Use the torch backend"):
        Fixed.__new__(Fixed).make_steerable()


@torch.inference_mode()
def test_the_upper_part_goes_on_from_cached_states(model: WatermarkedModel) -> None:
    """What a training step runs equals the full model, marked or not."""
    lm, pair = parts(model)
    first = LAYERS[pair.config.kind][0] - (pair.config.kind == "substituted")
    full = lm.model.base_model(input_ids=IDS, output_hidden_states=True)
    upper = lm.upper(first)
    with resumed(full.hidden_states[first]):
        assert torch.allclose(upper(input_ids=IDS, use_cache=False).last_hidden_state, full.last_hidden_state, atol=1e-5)
    marking = pair.embedder.intervention(Conditioning(SIGNS[:1], torch.ones(1)))
    with steered(marking):
        marked = lm.model.base_model(input_ids=IDS).last_hidden_state
        with resumed(full.hidden_states[first]):
            assert torch.allclose(upper(input_ids=IDS, use_cache=False).last_hidden_state, marked, atol=1e-5)
