"""The contract: what vLLM writes with the plugin is what Countersign's own engine would have written, and its extractor reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from vllm import LLM, SamplingParams
from vllm.exceptions import VLLMValidationError

from tests.conftest import Countersign

PROMPTS = (
    "The harbour was quiet that morning, and",
    "In the second year of the survey the committee found",
    "To change a bicycle tyre, first",
    "Dear editor, I am writing because",
)
TOKENS = 100
ENGINE: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "async_scheduling": False,
    "max_model_len": 1024,
    "hf_overrides": {"architectures": ["Gemma3ForCausalLM"]},  # for models that an older release has converted
}


def params(seed: int, issuer: str | None = None, payload: str | None = None, **more: Any) -> SamplingParams:
    extra = {f"countersign_{name}": value for name, value in {"issuer": issuer, "payload": payload}.items() if value is not None}
    return SamplingParams(
        **{"temperature": 1.0, "top_k": 64, "max_tokens": TOKENS, "min_tokens": TOKENS, "seed": seed, "extra_args": extra, **more}
    )


def written(llm: LLM, prompts: list[str], settings: list[SamplingParams]) -> list[str]:
    return [output.outputs[0].text for output in llm.generate(prompts, settings, use_tqdm=False)]


@pytest.fixture(scope="module")
def llm(folder: str) -> Iterator[LLM]:
    """With prefix caching, which is vLLM's default."""
    engine = LLM(model=folder, max_num_seqs=16, enable_prefix_caching=True, **ENGINE)
    yield engine
    del engine


@pytest.fixture(scope="module")
def marked(llm: LLM) -> list[str]:
    """Each prompt with two messages and, unmarked, with none, all in one batch."""
    settings = [params(seed, *who) for who in (("acme", "2a"), ("acme", "d5"), ()) for seed in range(len(PROMPTS))]
    return written(llm, [*PROMPTS] * 3, settings)


def test_marks_are_read_with_issuer_and_payload(marked: list[str], countersign: Countersign) -> None:
    verdicts = countersign.verify(marked)
    found = [(verdict["verdict"], verdict["issuer"], verdict["payload"]) for verdict in verdicts]
    assert found[:8] == [("marked", "acme", "2a")] * 4 + [("marked", "acme", "d5")] * 4
    assert all(verdict["p_value"] < 1e-6 for verdict in verdicts[:8])
    assert not any(verdict["issuer"] for verdict in verdicts[8:])


@pytest.mark.parametrize(("place", "payload"), [(0, "2a"), (1, "d5"), (2, "2a")])
def test_a_seed_gives_the_text_of_our_own_engine(marked: list[str], countersign: Countersign, place: int, payload: str) -> None:
    """Two programs round differently, so that in a longer text the same random number may draw another token."""
    text = marked[place + (4 if payload == "d5" else 0)]
    ours = countersign.generate(PROMPTS[place], place, "acme", payload, tokens=40)
    assert len(ours) > 80 and text[: len(ours)] == ours


def test_a_text_does_not_depend_on_the_messages_beside_it(marked: list[str], llm: LLM) -> None:
    """One prompt, several messages, and its prefix in the cache by now: a mark of this kind is not in what is cached."""
    alone = [written(llm, [PROMPTS[0]], [params(0, "acme", payload)])[0] for payload in ("2a", "d5")]
    assert alone == [marked[0], marked[4]] and alone[0] != alone[1]


def test_unmarked_requests_are_what_vllm_writes_without_a_plugin(marked: list[str], llm: LLM) -> None:
    alone = written(llm, list(PROMPTS), [params(seed) for seed in range(len(PROMPTS))])
    assert alone == marked[8:]
    greedy = [params(0, temperature=0.0, max_tokens=20, min_tokens=0) for _ in PROMPTS]
    assert written(llm, list(PROMPTS), greedy) == written(llm, list(PROMPTS), greedy)


def test_several_texts_of_a_request_differ(llm: LLM, countersign: Countersign) -> None:
    (output,) = llm.generate([PROMPTS[1]], params(5, "newsroom", n=3), use_tqdm=False)
    texts = [each.text for each in output.outputs]
    assert len(set(texts)) == 3
    assert [verdict["issuer"] for verdict in countersign.verify(texts)] == ["newsroom"] * 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (params(0, "nobody"), "No key named 'nobody'"),
        (params(0, "acme", "100"), "at most 8 bits"),
        (params(0, "acme", temperature=0.0), "Greedy"),
        (params(0, "acme", top_k=0), "give top_k"),
    ],
)
def test_what_cannot_be_marked_is_refused_and_harms_nobody(llm: LLM, settings: SamplingParams, says: str) -> None:
    with pytest.raises(VLLMValidationError, match=says):
        llm.generate([PROMPTS[0]], settings, use_tqdm=False)
    assert written(llm, [PROMPTS[0]], [params(1, max_tokens=3, min_tokens=0)])[0]


def test_texts_that_give_way_and_come_back_are_the_same(marked: list[str], folder: str) -> None:
    """Room for two of eight texts at a time: the others are put off in the middle (preemption)."""
    settings = [params(seed, "acme", payload) for payload in ("2a", "d5") for seed in range(len(PROMPTS))]
    room = {"max_model_len": 128, "num_gpu_blocks_override": 64, "block_size": 32}
    engine = LLM(model=folder, max_num_seqs=8, disable_log_stats=False, **{**ENGINE, **room})
    texts = written(engine, [*PROMPTS] * 2, settings)
    assert sum(metric.value for metric in engine.get_metrics() if metric.name == "vllm:num_preemptions") > 0  # type: ignore[attr-defined]
    assert [text[:40] for text in texts] == [text[:40] for text in marked[:8]]
    assert (
        sum(text == other for text, other in zip(texts, marked, strict=False)) >= 6
    )  # read at once or token by token, sums round differently


def test_a_prompt_that_is_read_in_pieces_is_continued_with_a_mark(folder: str, countersign: Countersign) -> None:
    """Without seeds: on the CPU, vLLM 0.32 cannot read the prompt of a request with one in pieces."""
    engine = LLM(model=folder, max_num_seqs=8, max_num_batched_tokens=16, **ENGINE)
    settings = params(0, "acme", "2a")
    settings.seed = None
    texts = written(engine, [f"{PROMPTS[1]} that the tide had risen. {prompt}" for prompt in PROMPTS], [settings] * 4)
    found = [(verdict["issuer"], verdict["payload"]) for verdict in countersign.verify(texts)]
    assert found.count(("acme", "2a")) >= 3  # each is found with a probability of .98 or more
