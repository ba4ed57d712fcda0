"""The openvino backend computes what the model computes, for every architecture that it takes; the others are refused by name."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
import torch
from threadpoolctl import ThreadpoolController
from torch import nn

from tests.fakes import fake_config
from tests.test_base_model import FAMILIES, tiny
from watermark.base_model import FrozenLM
from watermark.codebook.keys import IssuerKey
from watermark.errors import BaseModelError, NotConvertible
from watermark.inference import running
from watermark.inference.openvino import convert as conversion
from watermark.inference.openvino import running as paged
from watermark.inference.openvino.convert import convert
from watermark.inference.openvino.files import BODY, SHAPE, read_shape
from watermark.inference.openvino.head import GROUP
from watermark.inference.openvino.lm import OpenVinoLM
from watermark.inference.openvino.threads import OneBlasThread
from watermark.inference.running import RunningModel
from watermark.pair import build_pair
from watermark.pipeline import WatermarkedModel
from watermark.sampling.requests import GenerationRequest, SamplingSettings

REFUSED = {"gemma2": "softcap", "bloom": "0 of 3 attentions", "falcon": "0 of 3 attentions"}
LAYERS = (0, 1, 2)


def started(model: RunningModel, prompts: list[list[int]]) -> RunningModel:
    coming = model.begin(prompts)
    while not coming.advance(hurry=True):
        pass
    model.join(coming)
    return model


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(REFUSED)))
@torch.inference_mode()
def test_states_and_logits_are_the_models(converted, family):
    lm, fast = converted(family)
    sequences = [[0, *range(5, 60)], [0, 7, 8], [0]]
    states, wanted = fast.read_states(sequences, LAYERS), lm.read_states(sequences, LAYERS)
    assert states.shape == (60, 3, lm.hidden_size)
    assert float(torch.cosine_similarity(states, wanted, dim=-1).min()) > 0.999
    logits, last = started(fast.running(LAYERS, nn.Identity()), sequences).step(torch.tensor([s[-1] for s in sequences]))
    for row, sequence in enumerate(sequences):
        full = lm.model(input_ids=torch.tensor([sequence])).logits[0, -1]
        assert float((torch.log_softmax(logits[row], -1) - torch.log_softmax(full, -1)).abs().max()) < 0.05
    at = torch.tensor([55, 58, 59])
    assert last is not None
    assert float(torch.cosine_similarity(last, wanted[at], dim=-1).min()) > 0.999
    assert torch.allclose(fast.embed(torch.tensor([[3, 9]])), lm.embed(torch.tensor([[3, 9]])), atol=1e-3)


def opened(folder: Path, lm: FrozenLM) -> FrozenLM:
    return OpenVinoLM(folder, lm.tokenizer, lm.name)


@pytest.mark.parametrize(("family", "rounded"), [("llama", True), ("phi", False)])
@torch.inference_mode()
def test_a_plain_head_of_a_wide_enough_model_is_rounded(tmp_path: Path, monkeypatch, family: str, rounded: bool):
    """And its likely tokens are those of the model. A head with a bias, as Phi's, is not: the bias would be lost."""
    monkeypatch.setitem(FAMILIES, family, {**FAMILIES[family], "hidden_size": 2 * GROUP})
    lm = tiny(family)
    if not rounded:
        lm.model.lm_head.bias.copy_(torch.linspace(-1.0, 1.0, lm.vocab_size))
    convert(lm, tmp_path)
    assert read_shape(tmp_path).rounded_head == rounded
    fast = opened(tmp_path, lm)
    model = started(fast.running(LAYERS), [[0, *range(5, 60)]])
    logits, _ = model.step(torch.tensor([59]))
    wanted = lm.model(input_ids=torch.tensor([[0, *range(5, 60)]])).logits[0, -1]
    assert float((torch.log_softmax(logits[0], -1) - torch.log_softmax(wanted, -1)).abs().max()) < 0.05
    values, ids = model.likeliest(logits, 10)
    assert torch.allclose(wanted[ids[0]], wanted.topk(10).values, atol=0.02)
    assert torch.equal(values[0], logits[0, ids[0]])
    check_alone_and_together(fast)


@torch.inference_mode()
def test_queries_keys_and_values_are_one_product_and_the_same_numbers(tmp_path: Path, monkeypatch):
    lm, sequences, found = tiny("llama"), [[0, *range(5, 60)], [0, 7, 8]], []
    for name, join in (("joined", conversion._joined), ("apart", list)):
        monkeypatch.setattr(conversion, "_joined", join)
        folder = tmp_path / name
        folder.mkdir()
        convert(lm, folder)
        nodes = [node.get_type_name() for node in conversion.ov.Core().read_model(folder / BODY).get_ordered_ops()]
        found.append((opened(folder, lm).read_states(sequences, LAYERS), nodes.count("VariadicSplit"), nodes.count("MatMul")))
    (states, splits, products), (wanted, none, more) = found
    assert (splits, none) == (lm.layer_count, 0) and more - products == 2 * lm.layer_count
    assert torch.allclose(states, wanted, atol=1e-6)


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_attention_of_another_kind_is_refused(tmp_path: Path, family):
    lm = tiny(family)
    with pytest.raises(NotConvertible, match=f"'{family}'.*{REFUSED[family]}.*torch backend"):
        convert(lm, tmp_path)
    assert lm.model.config._attn_implementation == tiny(family).model.config._attn_implementation, "the model is left as it was"


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
@torch.inference_mode()
def test_texts_that_come_and_go_see_what_the_full_forward_sees(converted, family, monkeypatch):
    """Prompts in pieces, texts that join, stop and are taken out at any time, a cache that grows while it is in use."""
    monkeypatch.setattr(running, "CHUNK", 7)
    monkeypatch.setattr(paged, "CHUNK", 7)
    monkeypatch.setattr(paged, "CHUNK_BESIDE", 4)
    monkeypatch.setattr(paged, "BLOCKS", 2)
    lm, fast = converted(family)
    model, rng, texts, checked = fast.running(LAYERS, nn.Identity()), random.Random(3), [], 0
    waiting: list[tuple] = []
    for _ in range(80):
        if len(texts) < 5 and rng.random() < 0.4:
            prompts = [[0, *rng.choices(range(5, 90), k=rng.choice([1, 9, 40]))] for _ in range(rng.randint(1, 2))]
            waiting.append((model.begin(prompts), [list(p) for p in prompts]))
        if waiting and waiting[0][0].advance(hurry=rng.random() < 0.5):
            coming, prompts = waiting.pop(0)
            model.join(coming)
            texts += prompts
        elif waiting and len(waiting[0][1]) > 1 and rng.random() < 0.2:
            coming, prompts = waiting[0]
            coming.remove(0)
            prompts[0] = prompts[-1]
            prompts.pop()
        if texts and rng.random() < 0.1:
            place = rng.randrange(len(texts))
            model.remove(place)
            texts[place] = texts[-1]
            texts.pop()
        if not texts:
            continue
        logits, states = model.step(torch.tensor([text[-1] for text in texts]))
        for place, text in enumerate(texts):
            full = lm.model(input_ids=torch.tensor([text]), output_hidden_states=True)
            assert float((torch.log_softmax(logits[place], -1) - torch.log_softmax(full.logits[0, -1], -1)).abs().max()) < 0.05
            wanted = torch.stack([full.hidden_states[layer][0, -1] for layer in LAYERS])
            assert float(torch.cosine_similarity(states[place], wanted, dim=-1).min()) > 0.999
            checked += 1
            text.append(rng.randrange(5, 90))
    assert checked > 100


def check_alone_and_together(fast: FrozenLM) -> None:
    config = fake_config(hidden_size=fast.hidden_size)
    model = WatermarkedModel(fast, build_pair(config, fast).eval(), "untrained")
    key, prompts = IssuerKey("acme", b"k" * 32), ("Short", "A longer one than the other", "x")
    settings = [SamplingSettings(max_new_tokens=40, min_new_tokens=40, seed=3, top_k=top_k) for top_k in (64, 90, 5)]
    requests = [GenerationRequest(prompt, sampling, key) for prompt, sampling in zip(prompts, settings, strict=True)]
    together = model.generate(requests)
    assert [r.token_ids for r in together] == [model.generate([request])[0].token_ids for request in requests]


def test_a_text_is_the_same_alone_and_in_a_batch(converted):
    check_alone_and_together(converted("llama")[1])


def test_a_converted_model_stays_on_the_cpu(converted):
    _, fast = converted("llama")
    fast.to("cpu")
    with pytest.raises(BaseModelError, match="openvino backend runs on the CPU"):
        fast.to("cuda")


@pytest.mark.parametrize("damage", ["{}", '{"format": 1', None])
def test_a_folder_that_is_no_conversion_is_refused(converted, tmp_path: Path, damage):
    lm, _ = converted("llama")
    if damage is not None:
        (tmp_path / SHAPE).write_text(damage)
    with pytest.raises(BaseModelError, match="holds no converted model"):
        OpenVinoLM(tmp_path, lm.tokenizer, "llama")


def test_torchs_threads_are_given_back(converted):
    _, fast = converted("llama")
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="inside"), fast.computing():
        assert torch.get_num_threads() == 1
        raise RuntimeError("inside")
    assert torch.get_num_threads() == before


def enter_and_leave(alone: OneBlasThread) -> None:
    with alone:
        pass


def test_blas_has_one_thread_until_the_last_one_is_out():
    libraries = ThreadpoolController().select(user_api="blas")
    alone = OneBlasThread()

    def threads() -> set[int]:
        return {library["num_threads"] for library in libraries.info()}

    with libraries.limit(limits=2):
        with alone:
            other = threading.Thread(target=enter_and_leave, args=(alone,))
            other.start()
            other.join()
            assert threads() == {1}
        assert threads() == {2}
        with alone:
            assert threads() == {1}
        assert threads() == {2}
