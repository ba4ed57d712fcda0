"""How far a mark that acts inside the model moves the next token's distribution: KL(marked ‖ base) along the marked texts themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from watermark.benchmark.ours import Ours
from watermark.codebook.codewords import codeword
from watermark.codebook.nonce import nonce_for
from watermark.embedding.conditioning import Conditioning
from watermark.evaluation.generation import Progress, WorkFolder, WrittenText
from watermark.inference.steering import steered
from watermark.inference.torch_lm import TorchLM
from watermark.pair import ResidualPair
from watermark.statistics.intervals import bootstrap_mean


def divergence(method: Ours, texts: Sequence[WrittenText], work: WorkFolder, *, seed: int, progress: Progress) -> dict[str, Any] | None:
    """Nats per token over the whole vocabulary, before temperature and top-k; mean over texts, with the interval over them.

    None for a kind that does not act inside the model: its marks leave the distribution as it is, in the mean over keys.
    """
    pair, lm = method.model.pair, method.model.lm
    if not isinstance(pair, ResidualPair) or not isinstance(lm, TorchLM):
        return None
    found = {record["number"]: record["nats"] for record in work.read("divergence.jsonl")}
    for done, text in enumerate(texts):
        if text.number not in found:
            progress(f"{method.name}: divergence", done, len(texts))
            found[text.number] = _along(lm, pair, method, text)
            work.append("divergence.jsonl", [{"number": text.number, "nats": found[text.number]}])
    progress(f"{method.name}: divergence", len(texts), len(texts))
    values = [found[text.number] for text in texts]
    return {"n": len(values), "nats": float(np.mean(values)), "interval": bootstrap_mean(values, range(len(values)), seed=seed)}


@torch.inference_mode()
def _along(lm: TorchLM, pair: ResidualPair, method: Ours, text: WrittenText) -> float:
    key, bits = method.key(text.number), pair.config.nonce_bits
    signs = torch.from_numpy(codeword(key, 0, nonce_for(key, text.seed, bits), bits, pair.config.n).astype(np.float32)).unsqueeze(0)
    ids = torch.tensor([[*lm.tokenize(text.prompt).ids, *text.token_ids]], device=lm.device)
    places = slice(ids.shape[1] - len(text.token_ids) - 1, -1)
    base = lm.model(input_ids=ids).logits[0, places].float().log_softmax(dim=-1)
    with steered(pair.embedder.intervention(Conditioning(signs.to(lm.device), torch.ones(1, device=lm.device)))):
        marked = lm.model(input_ids=ids).logits[0, places].float().log_softmax(dim=-1)
    return float((marked.exp() * (marked - base)).sum(dim=-1).mean())
