"""What the vLLM plugin does to a batch, without vLLM: its texts are those of Countersign's own engine, whatever becomes of their places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from countersign_vllm import handover, orders
from countersign_vllm.handover import Step, pack, unpack
from countersign_vllm.marks import Marks
from countersign_vllm.orders import Order, read_order

from tests.fakes import fake_watermarked_model
from watermark.codebook.keys import IssuerKey, KeyRing
from watermark.embedding.embedder import Embedder
from watermark.errors import CountersignError
from watermark.inference.torch_lm import TorchLM
from watermark.sampling.requests import GenerationRequest, SamplingSettings

KEY = IssuerKey("acme", bytes(range(32)), payload_bits=8)
TOKENS = 24


def request(prompt: str, seed: int, payload: int = 0, **sampling: Any) -> GenerationRequest:
    settings = SamplingSettings(max_new_tokens=TOKENS, min_new_tokens=TOKENS, seed=seed, **sampling)
    return GenerationRequest(prompt, settings, KEY, payload)


REQUESTS = [request("abc", 1, 7), request("abc", 1, 8), request("another prompt", 2, top_k=20), request("x", 3, 255, top_p=0.8)]


class Batch:
    """What vLLM does for the plugin: computes the texts that have a place, and takes the token that is left in their logits."""

    def __init__(self) -> None:
        self.model = fake_watermarked_model()
        assert isinstance(self.model.pair.embedder, Embedder)
        self.marks = Marks(self.model.pair.embedder, self.model.config)  # type: ignore[arg-type]
        self.prompts: dict[int, list[int]] = {}
        self.texts: dict[int, list[int]] = {}
        self.places: dict[int, int] = {}

    def join(self, name: int, place: int) -> None:
        asked = REQUESTS[name]
        assert isinstance(asked.prompt, str)
        self.prompts[name] = self.model.lm.tokenize(asked.prompt).ids
        self.texts.setdefault(name, [])
        self.places[name] = place
        self.marks.join(place, name, Order(KEY, asked.payload, 1.0, asked.sampling), len(self.prompts[name]))

    def leave(self, name: int) -> None:
        """The last one takes its place; as in vLLM, that is all that is said of it then."""
        place = self.places.pop(name)
        last = max(self.places, key=self.places.__getitem__, default=name)
        if self.places.get(last, place) > place:
            self.marks.move(self.places[last], place, swap=False)
            self.places[last] = place
        else:
            self.marks.leave(place)

    def swap(self, one: int, other: int) -> None:
        self.marks.move(self.places[one], self.places[other], swap=True)
        self.places[one], self.places[other] = self.places[other], self.places[one]

    def step(self, reading: tuple[int, ...] = ()) -> None:
        """`reading`: of these texts only the beginning of the prompt is computed, as when a long one is read in pieces."""
        names = sorted(self.places, key=self.places.__getitem__)
        computed = [self.prompts[name][:1] if name in reading else self.prompts[name] + self.texts[name] for name in names]
        logits, states = zip(*map(self._last, computed), strict=True)
        step = Step(torch.stack(states), torch.tensor([len(ids) - 1 for ids in computed]))
        drawn = self.marks.draw(torch.stack(logits), step)
        for name, row in zip(names, drawn, strict=True):
            if name not in reading:
                assert int(row.isfinite().sum()) == 1
                self.texts[name].append(int(row.argmax()))

    @torch.inference_mode()
    def _last(self, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        lm = self.model.lm
        assert isinstance(lm, TorchLM)
        output = lm.model(torch.tensor([ids]), output_hidden_states=True)
        logits = output.logits[0, -1].float()
        logits[list(lm.end_ids)] = -torch.inf
        states = lm.read_states([ids], self.model.config.query_layers)
        return logits, states[-1]

    def until_all_are_written(self) -> None:
        while any(len(text) < TOKENS for text in self.texts.values()):
            for name in [name for name in self.places if len(self.texts[name]) == TOKENS]:
                self.leave(name)
            self.step()


@pytest.fixture(scope="module")
def wanted() -> list[list[int]]:
    return [list(result.token_ids) for result in fake_watermarked_model().generate(REQUESTS)]


def written(batch: Batch) -> list[list[int]]:
    return [batch.texts[name] for name in range(len(REQUESTS))]


def test_texts_are_those_of_our_own_engine(wanted: list[list[int]]) -> None:
    batch = Batch()
    for name in range(len(REQUESTS)):
        batch.join(name, place=name)
    batch.until_all_are_written()
    assert written(batch) == wanted
    assert wanted[0] != wanted[1]  # one prompt and one seed, two messages


def test_texts_do_not_depend_on_who_comes_goes_and_changes_places(wanted: list[list[int]]) -> None:
    batch = Batch()
    batch.join(1, place=0)
    batch.step()
    batch.join(0, place=1)
    batch.step()
    batch.swap(0, 1)
    batch.join(2, place=2)
    batch.step()
    batch.leave(1)  # as when memory runs out: it comes back, and with it what it has carried
    batch.step()
    batch.step()
    batch.join(3, place=2)
    batch.join(1, place=3)
    batch.until_all_are_written()
    assert written(batch) == wanted


def test_nothing_is_drawn_while_a_prompt_is_read(wanted: list[list[int]]) -> None:
    batch = Batch()
    batch.join(0, place=0)
    batch.join(2, place=1)
    for _ in range(3):
        batch.step(reading=(2,))
    batch.join(1, place=2)
    batch.join(3, place=3)
    batch.until_all_are_written()
    assert written(batch) == wanted


def test_a_text_whose_place_is_taken_has_left() -> None:
    batch = Batch()
    batch.join(0, place=0)
    batch.join(1, place=0)
    assert len(batch.marks) == 1
    batch.leave(1)
    assert len(batch.marks) == 0
    batch.marks.leave(7)


def test_rows_of_others_are_not_touched() -> None:
    batch = Batch()
    batch.join(0, place=1)
    ids = batch.prompts[0]
    logits, state = batch._last(ids)
    batch_logits = torch.stack([logits, logits, logits])
    step = Step(torch.stack([state] * 3), torch.tensor([len(ids) - 1] * 3))
    drawn = batch.marks.draw(batch_logits.clone(), step)
    assert torch.equal(drawn[[0, 2]], batch_logits[[0, 2]]) and int(drawn[1].isfinite().sum()) == 1


# ---- from the model to the processor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_states_and_positions_travel_whole(dtype: torch.dtype) -> None:
    hidden, streams = torch.randn(4, 8, dtype=dtype), [torch.randn(4, 8, dtype=dtype) for _ in range(3)]
    positions = torch.tensor([0, 127, 128, 131_071])
    back, step = unpack(pack(hidden, streams, positions), 8)
    assert torch.equal(back, hidden) and torch.equal(step.states, torch.stack(streams, dim=1))
    assert step.positions.tolist() == positions.tolist()


def test_a_step_is_taken_once_and_only_if_it_fits() -> None:
    step = Step(torch.zeros(2, 1, 4), torch.zeros(2))
    handover.give(step)
    assert handover.take(2) is step
    with pytest.raises(RuntimeError, match="states of none"):
        handover.take(2)
    handover.give(step)
    with pytest.raises(RuntimeError, match="3 texts get a token and the model gave the states of 2"):
        handover.take(3)


# ---- what a request says


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COUNTERSIGN_HOME", str(tmp_path))
    monkeypatch.delenv(orders.DEFAULT_ISSUER, raising=False)
    KeyRing(tmp_path / "keys").create("acme", 8)
    orders.known_keys.cache_clear()
    yield
    orders.known_keys.cache_clear()


SAMPLING = {"temperature": 1.0, "top_k": 64, "top_p": 1.0, "seed": None, "max_tokens": 10}


def test_an_order_names_issuer_payload_and_strength(ring: None) -> None:
    order = read_order({"countersign_issuer": "acme", "countersign_payload": "2a", "countersign_strength": 0.5}, SAMPLING)
    assert order is not None and (order.key.name, order.payload, order.strength) == ("acme", 0x2A, 0.5)
    assert read_order({"another_plugin": 1}, SAMPLING) is None and read_order(None, SAMPLING) is None


@pytest.mark.parametrize(
    ("extra", "sampling", "says"),
    [
        ({"countersign_issuer": "nobody"}, {}, "No key named 'nobody'"),
        ({"countersign_issuer": "acme", "countersign_payload": "100"}, {}, "at most 8 bits; got '100'"),
        ({"countersign_issuer": "acme", "countersign_payload": 42}, {}, "hexadecimal, as text"),
        ({"countersign_issuer": "acme", "countersign_payload": "zz"}, {}, "hexadecimal"),
        ({"countersign_issuer": "acme", "countersign_strength": 0}, {}, "above 0 and at most 1"),
        ({"countersign_issuer": "acme", "countersign_strength": "1"}, {}, "above 0 and at most 1"),
        ({"countersign_issuer": "acme", "countersign_isuer": "acme"}, {}, "No field countersign_isuer"),
        ({"countersign_payload": "2a"}, {}, "needs countersign_issuer"),
        ({"countersign_issuer": "acme"}, {"temperature": 0}, "Greedy"),
        ({"countersign_issuer": "acme"}, {"top_k": 0}, "give top_k"),
        ({"countersign_issuer": "acme"}, {"top_k": 5000}, "give top_k"),
        ({"countersign_issuer": "acme"}, {"seed": -1}, "seed must be"),
    ],
)
def test_what_is_wrong_with_an_order_is_said(ring: None, extra: dict[str, Any], sampling: dict[str, Any], says: str) -> None:
    with pytest.raises(CountersignError, match=says):
        read_order(extra, {**SAMPLING, **sampling})


def test_a_default_issuer_marks_what_can_be_marked(ring: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(orders.DEFAULT_ISSUER, "acme")
    order = read_order(None, SAMPLING)
    assert order is not None and order.key.name == "acme"
    assert read_order(None, {**SAMPLING, "temperature": 0}) is None
    assert read_order({"countersign_issuer": "none"}, SAMPLING) is None
    with pytest.raises(CountersignError, match="give top_k"):
        read_order(None, {**SAMPLING, "top_k": 0})


def test_a_fresh_seed_is_drawn_for_a_request_without_one(ring: None) -> None:
    order = read_order({"countersign_issuer": "acme"}, SAMPLING)
    assert order is not None and len({order.seed for _ in range(4)}) == 4
    seeded = read_order({"countersign_issuer": "acme"}, {**SAMPLING, "seed": 5})
    assert seeded is not None and seeded.seed == 5
