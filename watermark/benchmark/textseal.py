"""textseal (Meta): Gumbel-max (Aaronson 2022) and a green list, with its default keys, windows and detectors. An optional package."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from math import log10
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from watermark.base_model import FrozenLM
from watermark.benchmark.decoding import Peer, Reweighting
from watermark.benchmark.methods import NOTHING, Detection
from watermark.errors import InvalidInput

if TYPE_CHECKING:
    from textseal.common.watermark.core import WatermarkConfig  # pyright: ignore[reportMissingImports]  # optional

SETTINGS = {
    "gumbelmax": ("secret_key", "ngram", "method", "scoring_method"),
    "greenlist": ("secret_key", "ngram", "method", "gamma", "delta", "after_topp", "scoring_method"),
}
"""The fields of its configuration that a scheme reads."""
TITLES = {"gumbelmax": "Gumbel-max (textseal)", "greenlist": "Green list (textseal)"}


def textseal(lm: FrozenLM, kind: Literal["gumbelmax", "greenlist"]) -> Peer:
    """Raises InvalidInput where the package is not installed."""
    if importlib.util.find_spec("textseal") is None:
        raise InvalidInput('The methods gumbelmax and greenlist need textseal. Install it: pip install "countersign[benchmark]"')
    from textseal.common.watermark.core import WatermarkConfig  # pyright: ignore[reportMissingImports]

    config = replace(WatermarkConfig(watermark_type=kind), method="uniform" if kind == "gumbelmax" else "binary")
    settings = {"library": "textseal", **{name: getattr(config, name) for name in SETTINGS[kind]}}
    reweight = _gumbelmax(config) if kind == "gumbelmax" else _greenlist(config)
    return Peer(lm, kind, TITLES[kind], settings, lambda: reweight, lambda: TextsealDetector(lm, config))


def _gumbelmax(config: WatermarkConfig) -> Reweighting:
    """All weight on argmax r^(1/p), as its generator chooses, with r from the library's function of context, token and key."""
    from textseal.common.watermark.pseudorandom import prf_uniform  # pyright: ignore[reportMissingImports]

    def reweight(before: Tensor, ids: Tensor, probs: Tensor) -> Tensor:
        chosen = prf_uniform(_windows(before, ids, config), ids, config.secret_key).pow(1 / probs).argmax(dim=1, keepdim=True)
        return torch.zeros_like(probs).scatter(1, chosen, 1.0)

    return reweight


def _greenlist(config: WatermarkConfig) -> Reweighting:
    """exp(δ) times the probability of green tokens, as its generator does behind the cut to the likeliest."""
    from textseal.common.watermark.pseudorandom import prf_binary  # pyright: ignore[reportMissingImports]

    def reweight(before: Tensor, ids: Tensor, probs: Tensor) -> Tensor:
        raised = probs * torch.exp(config.delta * prf_binary(_windows(before, ids, config), ids, config.secret_key, config.gamma))
        return raised / raised.sum(dim=1, keepdim=True)

    return reweight


def _windows(before: Tensor, ids: Tensor, config: WatermarkConfig) -> Tensor:
    """The context of every candidate: (B, K, ngram)."""
    window = before[:, -config.ngram :]
    return window.unsqueeze(1).expand(-1, ids.shape[1], -1)


class TextsealDetector:
    """The library's detector: every pair of context and token scored once (its method v2), with an exact p-value."""

    def __init__(self, lm: FrozenLM, config: WatermarkConfig) -> None:
        from textseal.posthoc.detector import build_detector  # pyright: ignore[reportMissingImports]

        self._config = config
        self._detector: Any = build_detector(lm.tokenizer, config)

    def __call__(self, texts: Sequence[str], numbers: Sequence[int]) -> list[Detection]:
        found = []
        for text in texts:
            # The library scores token by token, a tensor for each; the same numbers come from one call over the text.
            known = self._scores(self._detector.tokenizer.encode(text, add_special_tokens=False))
            self._detector.score_tok = lambda before, token, known=known: known[(*before, token)]
            (scores,) = self._detector.get_scores_by_t([text], scoring_method=self._config.scoring_method, seen_windows=set())
            found.append(self._detection(scores))
        return found

    def _scores(self, row: list[int]) -> dict[tuple[int, ...], float]:
        """What `score_tok` gives for every window and token of a text."""
        from textseal.common.watermark.pseudorandom import prf_binary, prf_uniform  # pyright: ignore[reportMissingImports]

        config, width = self._config, self._config.ngram
        if len(row) <= width:
            return {}
        grams = list(dict.fromkeys(tuple(row[i : i + width + 1]) for i in range(len(row) - width)))
        windows, tokens = torch.tensor(grams).split([width, 1], dim=1)
        if config.method == "uniform":
            values = -(1 - prf_uniform(windows, tokens[:, 0], config.secret_key)).log()
        else:
            values = prf_binary(windows, tokens[:, 0], config.secret_key, config.gamma).float()
        return dict(zip(grams, values.tolist(), strict=True))

    def _detection(self, scores: list[float]) -> Detection:
        if not scores:
            return NOTHING
        p = float(self._detector.get_pvalue(sum(scores), len(scores), eps=1e-200))
        return Detection(-log10(p), p)
