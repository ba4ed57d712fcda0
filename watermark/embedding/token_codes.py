"""Token codes: κ(c) ∈ {±1}^n, the direction in which choosing token c pushes every slot.

Codes are hashed from the token's *surface*, without case and surrounding space: "The", " the" and "THE" share one code,
so evidence survives a change of case, and the codes of one surface agree across tokenizers. Hashed codes do not correlate
with topic; codes taken from semantic embeddings do, and then the noise of a text adds up with its length.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from watermark.base_model import TokenizedModel
from watermark.folders import cache_folder

TABLE = 1
"""Raise it when `surface` or `code_table` changes: tables that were kept are then not used."""
_UNREADABLE = "\ufffd"


def surface(decoded: str, token: str) -> str:
    """The form of a token that its code depends on. Tokens that are no readable text on their own keep their raw name."""
    if _UNREADABLE in decoded or not decoded.strip():
        return "\x00" + token
    return unicodedata.normalize("NFKC", decoded).casefold().strip()


def code_table(surfaces: list[str], n: int, salt: str) -> np.ndarray:
    """Packed signs, uint8 of shape (len(surfaces), n / 8): SHAKE-256 of salt and surface."""
    prefix = salt.encode() + b"\x00"
    digests = (hashlib.shake_256(prefix + s.encode("utf-8", "surrogatepass")).digest(n // 8) for s in surfaces)
    return np.frombuffer(bytearray().join(digests), dtype=np.uint8).reshape(len(surfaces), n // 8)


def vocabulary_surfaces(lm: TokenizedModel) -> list[str]:
    """Surfaces of all token ids of a model; rows of the embedding table without a token get a name of their own."""
    ids = range(min(lm.vocab_size, len(lm.tokenizer)))
    decoded = lm.tokenizer.backend_tokenizer.decode_batch([[i] for i in ids], skip_special_tokens=False)
    tokens = lm.tokenizer.convert_ids_to_tokens(list(ids))
    known = [surface(d, t or f"id {i}") for i, d, t in zip(ids, decoded, tokens, strict=True)]
    return known + [f"\x00id {i}" for i in range(len(known), lm.vocab_size)]


def cached_table(lm: TokenizedModel, n: int, salt: str) -> np.ndarray:
    """`code_table` of a model's vocabulary. A large one takes seconds, so it is kept in the cache folder, from where processes share it."""
    name = hashlib.sha256(f"{TABLE}\x00{lm.tokenizer_digest()}\x00{lm.vocab_size}\x00{n}\x00{salt}".encode()).hexdigest()[:32]
    path = cache_folder() / "token-codes" / f"{name}.npy"
    try:
        table = np.load(path, mmap_mode="c")
        if table.shape == (lm.vocab_size, n // 8) and table.dtype == np.uint8:
            return table
    except (OSError, ValueError, EOFError):
        pass  # not there, or not whole: made again
    table = code_table(vocabulary_surfaces(lm), n, salt)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as partial:
            np.save(partial, table)
        Path(partial.name).replace(path)
    return table


class TokenCodes(nn.Module):
    """Looks up κ for token ids. Kept packed (n bits a token): a float table of a 262,144-token vocabulary takes 0.5 GB."""

    packed: Tensor
    unpack: Tensor

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
        self.table = table
        """The codes as they are kept, uint8 (V, n / 8), the first sign in the highest bit; 1 for +. In main memory, on any device."""
        # Derived from the tokenizer, so not part of a checkpoint's weights.
        self.register_buffer("packed", torch.from_numpy(table), persistent=False)
        self.register_buffer("unpack", torch.from_numpy(bits.astype(np.float32) * 2 - 1), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (…) → codes (…, n) of ±1."""
        return F.embedding(self.packed[ids].int(), self.unpack).flatten(-2)
