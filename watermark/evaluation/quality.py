"""What marking does to a text: perplexity under the base model, repetition, variety."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from watermark.errors import InvalidInput
from watermark.inference.torch_lm import TorchLM

MAX_LOGITS = 2**25
"""Logits held at once (128 MiB in float32, three times that with the copies): 128 positions of a vocabulary of 262,144."""


@dataclass(frozen=True)
class Likelihood:
    nlls: tuple[float, ...]
    """Negative log-likelihood of each token of the continuation, in nats."""

    def first(self, count: int) -> float:
        """The sum over the first `count` tokens."""
        return sum(self.nlls[:count])


@torch.inference_mode()
def continuation_likelihoods(lm: TorchLM, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> list[Likelihood]:
    """Likelihood of each continuation after its prompt, both token ids, as one batch: the whole vocabulary at temperature 1.

    The perplexity of several texts is exp(Σ nll / tokens), that is token-weighted. Texts of similar length make a batch cheap.
    Raises InvalidInput for an empty prompt or continuation.
    """
    if not all(prompts) or not all(continuations) or len(prompts) != len(continuations):
        raise InvalidInput("Likelihood needs at least one prompt token and one continuation token in every text.")
    texts = [[*prompt, *continuation] for prompt, continuation in zip(prompts, continuations, strict=True)]
    longest = max(map(len, texts))
    # Padding on the right lies in the future of every real token, so causal attention needs no mask for it.
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts], device=lm.device)
    positions = torch.arange(1, longest, device=lm.device)
    first = torch.tensor([[len(prompt)] for prompt in prompts], device=lm.device)
    stop = torch.tensor([[len(text)] for text in texts], device=lm.device)
    counted = (positions >= first) & (positions < stop)  # (batch, longest - 1): is token `position` scored?
    nll = torch.zeros(len(texts), longest - 1, device=lm.device)
    cache = DynamicCache(config=lm.model.config)
    start = min(map(len, prompts)) - 1
    if start:  # no token up to here is scored in any text
        lm.model(input_ids=ids[:, :start], past_key_values=cache, use_cache=True, logits_to_keep=1)
    step = max(1, MAX_LOGITS // (lm.vocab_size * len(texts)))
    for begin in range(start, longest - 1, step):
        end = min(begin + step, longest - 1)
        logits = lm.model(input_ids=ids[:, begin:end], past_key_values=cache, use_cache=True).logits
        nll[:, begin:end] = _nll(logits, ids[:, begin + 1 : end + 1])
    return [Likelihood(tuple(row[where].tolist())) for row, where in zip(nll, counted, strict=True)]


def _nll(logits: Tensor, targets: Tensor) -> Tensor:
    """(batch, time, vocab) and (batch, time) to (batch, time)."""
    logits = logits.float()
    return torch.logsumexp(logits, dim=-1) - logits.gather(-1, targets[..., None])[..., 0]


def likelihoods(
    lm: TorchLM,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    batch_size: int = 8,
    on_batch: Callable[[list[int], list[Likelihood]], None] | None = None,
) -> list[Likelihood]:
    """`continuation_likelihoods` for any number of texts, in their order; `on_batch` gets (indices, results) as they come."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), len(continuations[i])))
    found: dict[int, Likelihood] = {}
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        results = continuation_likelihoods(lm, [prompts[i] for i in batch], [continuations[i] for i in batch])
        found.update(zip(batch, results, strict=True))
        if on_batch:
            on_batch(batch, results)
    return [found[i] for i in range(len(prompts))]


@torch.inference_mode()
def embeddings(lm: TorchLM, texts: Sequence[str], tokens: int) -> Tensor:
    """Unit vectors (N, hidden) of what texts are about: states of the base model's middle layer, averaged over the first `tokens`.

    Each dimension is standardised over the texts given: hidden states share a large common part and a few outlier dimensions,
    beside which the differences between texts would vanish. Compare only vectors of one call.
    """
    layer = max(1, lm.layer_count // 2)
    means = []
    for text in texts:
        found = lm.tokenize(text)
        ids = torch.tensor([found.ids[: found.prefix + tokens] or [0]], device=lm.device)
        means.append(lm.trunk_states(ids, torch.ones_like(ids), (layer,))[0, found.prefix :, 0].float().mean(dim=0))
    table = torch.stack(means).nan_to_num()
    return F.normalize((table - table.mean(dim=0)) / table.std(dim=0).clamp(min=1e-6), dim=-1).cpu()


def words(text: str) -> list[str]:
    """Lower-cased runs of letters, digits and underscores."""
    return re.findall(r"\w+", text.lower())


def repeated_trigram_share(text: str) -> float:
    """1 - distinct / all word trigrams of the text: 0 when none occurs twice. 0 for fewer than three words."""
    return 1.0 - distinct_share(text, 3)


def distinct_share(text: str, n: int) -> float:
    """Distinct-n (Li et al., NAACL 2016): distinct / all word n-grams of the text. 1 for fewer than n words."""
    found = words(text)
    grams = [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0
