from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from tests.fakes import fake_lm, fake_tokenizer
from watermark.errors import InvalidInput
from watermark.evaluation import quality
from watermark.evaluation.quality import continuation_likelihoods, distinct_share, embeddings, likelihoods, repeated_trigram_share
from watermark.inference.torch_lm import TorchLM

VOCAB = fake_lm().vocab_size


def sliding_window_lm() -> TorchLM:
    """A Gemma 3 with random weights and a window shorter than the texts: the cache has to forget as the model does."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        max_position_embeddings=128,
        initializer_range=0.2,
    )
    return TorchLM(Gemma3ForCausalLM(config), fake_tokenizer(), "gemma-like")


def random_ids(count: int, seed: int) -> list[int]:
    return torch.randint(3, VOCAB, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def by_hand(lm: TorchLM, prompt: Sequence[int], continuation: Sequence[int]) -> float:
    """One forward pass over the whole text, no cache, no batch."""
    with torch.inference_mode():
        logits = lm.model(input_ids=torch.tensor([[*prompt, *continuation]])).logits[0].double()
    each = torch.log_softmax(logits, -1)
    return -sum(float(each[len(prompt) - 1 + i, token]) for i, token in enumerate(continuation))


@pytest.mark.parametrize("make", [fake_lm, sliding_window_lm])
@pytest.mark.parametrize("max_logits", [2**25, 2000, 1])
def test_equals_a_plain_forward_pass_whatever_the_chunks(make, max_logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "MAX_LOGITS", max_logits)
    lm = make()
    prompts = [random_ids(n, n) for n in (1, 5, 20, 9)]
    continuations = [random_ids(n, 100 + n) for n in (12, 30, 1, 17)]
    found = continuation_likelihoods(lm, prompts, continuations)
    assert [len(f.nlls) for f in found] == [12, 30, 1, 17]
    for f, prompt, continuation in zip(found, prompts, continuations, strict=True):
        assert f.first(len(continuation)) == pytest.approx(by_hand(lm, prompt, continuation), rel=1e-4)
        assert f.first(3) == pytest.approx(by_hand(lm, prompt, continuation[:3]), rel=1e-4)


def test_many_texts_keep_their_order_and_report_batches() -> None:
    lm = fake_lm()
    prompts, continuations = [random_ids(3 + i % 4, i) for i in range(7)], [random_ids(4 + i % 3, 50 + i) for i in range(7)]
    seen: list[int] = []
    found = likelihoods(lm, prompts, continuations, batch_size=3, on_batch=lambda indices, results: seen.extend(indices))
    assert sorted(seen) == list(range(7))
    for i in range(7):
        [alone] = continuation_likelihoods(lm, [prompts[i]], [continuations[i]])
        assert found[i].nlls == pytest.approx(alone.nlls, abs=1e-4)


def test_empty_texts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        continuation_likelihoods(fake_lm(), [[]], [[5]])
    with pytest.raises(InvalidInput, match="at least one"):
        continuation_likelihoods(fake_lm(), [[5]], [[]])


def test_embeddings_tell_topics_apart() -> None:
    """Texts of the same letters are nearer to each other than to others; nothing else is asked of a fake model."""
    texts = ["aaaa aaa aaaaa", "aaa aaaa aaaaaa aa", "zzzz! zzz? zzzzz!", "zzz! zzzz? zz!"]
    found = embeddings(fake_lm(), texts, 100)
    assert torch.allclose(found.norm(dim=-1), torch.ones(4), atol=1e-5)
    near = found @ found.T
    assert near[0, 1] > near[0, 2] and near[2, 3] > near[0, 3]
    assert torch.allclose(embeddings(fake_lm(), [t + " and a tail" for t in texts], 4), embeddings(fake_lm(), texts, 4), atol=1e-5)


def test_repetition_and_variety() -> None:
    assert repeated_trigram_share("a b c d e f") == 0.0
    assert repeated_trigram_share("go on. Go on; go ON, go on!") == pytest.approx(1 - 2 / 6)
    assert repeated_trigram_share("two words") == 0.0 and repeated_trigram_share("") == 0.0
    assert distinct_share("a a a a", 1) == 0.25
    assert distinct_share("a b a b", 2) == pytest.approx(2 / 3)
