"""The file `calibration.safetensors` of a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from watermark.calibration.health import Health, key_health
from watermark.calibration.null import Lean, NullSample
from watermark.calibration.power import Power
from watermark.codebook.codewords import masks, unpack_signs
from watermark.codebook.keys import IssuerKey
from watermark.errors import CheckpointError

FILE = "calibration.safetensors"
FORMAT_VERSION = 2
"""Of version 1 there are files whose p-values of marked texts are in disorder."""


@dataclass(frozen=True)
class Calibration:
    """The null and the power of one checkpoint. Plain numbers: no text, no model."""

    sample: NullSample
    power: Power
    fingerprints: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    """Of the unmarked texts, so that none of them is used to test what was measured on them."""
    made: dict[str, object] = field(default_factory=dict)
    """How: sources, counts, seed."""

    @cached_property
    def lean(self) -> Lean:
        return Lean(self.sample)

    def lowered(self, statistics: NDArray, totals: NDArray, signs: NDArray[np.int8], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """S - shift·|e| (r,), the statistics to take the reported p-values of; never above `statistics` (r,). totals, signs (r, n)."""
        norms = np.linalg.norm(totals, axis=1)
        return statistics - norms * self.lean.own_shifts(signs, totals / np.maximum(norms, np.finfo(np.float64).tiny)[:, None], tokens)

    def health(self, key: IssuerKey, nonce_bits: int) -> Health:
        """Whether p-values of this key hold on the calibration texts."""
        n = self.sample.directions.shape[1]
        return key_health(self.sample, unpack_signs(masks(key, range(1 << nonce_bits), n), n))

    def save(self, folder: Path, weights_sha256: str) -> None:
        """Write the file into a checkpoint folder in one step; it is then valid for these weights alone."""
        sample, power = self.sample, self.power
        arrays = {"directions": sample.directions, "scale": sample.scale, "length": sample.length, "kind": sample.kind, "text": sample.text}
        about = {"format_version": FORMAT_VERSION, "kinds": sample.kinds, "lengths": power.lengths, "weights_sha256": weights_sha256}
        partial = folder / f"{FILE}.partial"
        arrays |= {"exponents": power.exponents, "fingerprints": self.fingerprints}
        # Bytes are written as they lie: an array whose columns were picked lies transposed, and would be read back shuffled.
        save_file(
            {k: np.ascontiguousarray(v) for k, v in arrays.items()}, partial, metadata={"about": json.dumps({**about, "made": self.made})}
        )
        partial.replace(folder / FILE)


def load_calibration(folder: Path, weights_sha256: str, n: int) -> Calibration | None:
    """The calibration in a checkpoint folder, or None where there is none.

    Raises CheckpointError when it is damaged, or was made for other weights or codewords of another length than `n`.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {})["about"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        sample = NullSample(tuple(about["kinds"]), *(arrays[name] for name in ("directions", "scale", "length", "kind", "text")))
        calibration = Calibration(sample, Power(tuple(about["lengths"]), arrays["exponents"]), arrays["fingerprints"], about["made"])
        made_for, version = about["weights_sha256"], about["format_version"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}. Make it again with: countersign calibrate") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}; this release reads {FORMAT_VERSION}. Make it again with: countersign calibrate"
        )
    if made_for != weights_sha256 or sample.directions.shape[1] != n:
        raise CheckpointError(f"{path} belongs to other weights than the checkpoint's. Make it again with: countersign calibrate")
    return calibration


def fingerprint(text: str) -> int:
    """64 bits of a text's SHA-256: says whether a text is a known one, and nothing else about it."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def describe(kinds: Sequence[str], sample: NullSample) -> dict[str, dict[str, int]]:
    """Texts by kind and length."""
    return {
        kind: {str(length): int(((sample.kind == i) & (sample.length == length)).sum()) for length in sample.lengths}
        for i, kind in enumerate(kinds)
    }
