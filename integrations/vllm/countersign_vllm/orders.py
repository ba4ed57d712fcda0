"""Who marks a text and with which message: what a request says under `vllm_xargs`, or `SamplingParams(extra_args=…)`."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, from_numpy

from watermark.codebook.codewords import codeword
from watermark.codebook.keys import IssuerKey, KeyRing
from watermark.codebook.nonce import nonce_for
from watermark.config import WatermarkConfig
from watermark.errors import InvalidInput, UnknownIssuer
from watermark.folders import key_folder
from watermark.sampling.requests import MAX_TOP_K, SamplingSettings

PREFIX = "countersign_"
FIELDS = ("issuer", "payload", "strength")
DEFAULT_ISSUER = "COUNTERSIGN_VLLM_ISSUER"
"""Variable with the issuer of requests that name none. Unset: those are not marked."""
NOBODY = "none"
"""The issuer of a request that is not to be marked, where there is a default one."""


@dataclass(frozen=True)
class Order:
    """One request for marked text."""

    key: IssuerKey
    payload: int
    strength: float
    sampling: SamplingSettings
    """Of which top_k, top_p and max_new_tokens count; vLLM applies the temperature and all else before candidates are chosen."""

    @property
    def seed(self) -> int:
        return secrets.randbits(63) if self.sampling.seed is None else self.sampling.seed

    def signs(self, seed: int, config: WatermarkConfig) -> Tensor:
        """The codeword (n,) of ±1."""
        nonce = nonce_for(self.key, seed, config.nonce_bits)
        return from_numpy(codeword(self.key, self.payload, nonce, config.nonce_bits, config.n))

    def uniforms(self, seed: int) -> Tensor:
        """One number in [0, 1) a token: those of a text that Countersign's own engine writes with this seed."""
        return from_numpy(np.random.default_rng(seed).random(self.sampling.max_new_tokens))


@functools.cache
def known_keys() -> dict[str, IssuerKey]:
    """Read once in each process, so that what one accepts another cannot miss. Raises KeyRingError."""
    return {key.name: key for key in KeyRing(key_folder()).all()}


def read_order(extra: Mapping[str, Any] | None, sampling: Mapping[str, Any]) -> Order | None:
    """None for a request that is not to be marked. `sampling`: temperature, top_k (0 and below: all), top_p, seed, max_tokens.

    Raises InvalidInput and UnknownIssuer, which say what is wrong with the request.
    """
    given = {name.removeprefix(PREFIX): value for name, value in (extra or {}).items() if name.startswith(PREFIX)}
    if unknown := sorted(given.keys() - set(FIELDS)):
        raise InvalidInput(f"No field {PREFIX}{unknown[0]}: there are {', '.join(PREFIX + name for name in FIELDS)}.")
    issuer, asked = given.get("issuer"), "issuer" in given
    if not asked:
        if given:
            raise InvalidInput(f"{PREFIX}{next(iter(given))} needs {PREFIX}issuer beside it.")
        issuer = os.environ.get(DEFAULT_ISSUER)
    if not issuer or issuer == NOBODY:
        return None
    greedy = sampling["temperature"] == 0 or sampling["top_k"] == 1
    if greedy and not asked:
        return None
    if greedy:
        raise InvalidInput("Greedy decoding (temperature 0 or top_k 1) leaves no room for a mark.")
    if not 1 <= sampling["top_k"] <= MAX_TOP_K:
        raise InvalidInput(f"Marked text is drawn from the likeliest candidates: give top_k, 1 … {MAX_TOP_K} (64 is usual).")
    if issuer not in known_keys():
        raise UnknownIssuer(f"No key named {issuer!r} was in the key ring when vLLM started.")
    key = known_keys()[issuer]
    settings = SamplingSettings(
        max_new_tokens=sampling["max_tokens"], top_k=sampling["top_k"], top_p=sampling["top_p"], seed=sampling["seed"]
    )
    return Order(key, _payload(given.get("payload"), key), _strength(given.get("strength", 1.0)), settings)


def _payload(given: Any, key: IssuerKey) -> int:
    """Hexadecimal, as in Countersign's API."""
    if given is None:
        return 0
    try:
        payload = int(given, 16) if isinstance(given, str) else -1
    except ValueError:
        payload = -1
    if not 0 <= payload < 2**key.payload_bits:
        raise InvalidInput(f"{PREFIX}payload must be hexadecimal, as text, of at most {key.payload_bits} bits; got {given!r}.")
    return payload


def _strength(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1:
        raise InvalidInput(f"{PREFIX}strength must be above 0 and at most 1; got {given!r}.")
    return float(given)
