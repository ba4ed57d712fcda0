"""The codebook: every codeword that a verifier tries, and the search for the one that evidence speaks for.

A *unit* is one issuer with one nonce: one mask. Units are independent random signs; the 2^bits codewords inside a unit are not
independent of each other, only each by itself is random, so a p-value is multiplied inside a unit (Bonferroni) and corrected by
Šidák's formula over units (`watermark.statistics.correction`).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark.codebook.codewords import check_sizes, masks, payload_of, unpack_signs
from watermark.codebook.keys import IssuerKey
from watermark.codebook.payload_code import payload_code
from watermark.errors import InvalidInput

EXHAUSTIVE = 2**20
"""Up to this many codewords of issuers with equally long payloads, all are compared; beyond, a list decoder searches."""
MAX_UNITS = 2**20
CHUNK_UNITS = 8192
"""Masks unpacked at a time: 32 MiB as float32 of 1,024 signs."""
CHUNK_STATISTICS = 2**20
"""Statistics of codewords held at a time, 4 MiB; of one mask at least."""
LIST_UNITS = 64
"""Units that share one decoder list."""
LIST_WORK = 2**16
"""What decoding one unit by list costs, in comparisons of a codeword with evidence (measured: 2 ms against 35 ns)."""
RIVALS = 1024
"""Most messages that `rivals` names."""
NEGLIGIBLE = 40.0
"""Messages less likely than the best by this exponent change no confidence."""
RATIO_SCALE = 9.0
"""z that a marked text of ordinary length has; sets how far the list decoder trusts a sign. Its result hardly depends on it."""

Totals = NDArray[np.floating]


@dataclass(frozen=True)
class Candidate:
    """What one codeword of a codebook stands for."""

    issuer: str
    payload: int
    payload_bits: int
    nonce: int
    version: int = 1
    """Of the issuer's key."""


@dataclass(frozen=True)
class Best:
    """The best codeword found for each row of evidence."""

    candidates: list[Candidate]
    signs: NDArray[np.int8]
    """(rows, n)"""
    statistics: NDArray[np.float64]
    """(rows,): Σ s·e, in full precision."""


@dataclass(frozen=True)
class _Group:
    """Issuers with payloads of one length."""

    bits: int
    keys: tuple[IssuerKey, ...]
    packed: NDArray[np.uint8]
    """Masks (units, ceil(n / 8)), all nonces of the first key, then of the next."""

    @property
    def exhaustive(self) -> bool:
        return len(self.packed) << self.bits <= EXHAUSTIVE


class Codebook:
    """All codewords of some keys: every payload with every nonce. An issuer may have several keys, of different versions."""

    def __init__(self, keys: Sequence[IssuerKey], nonce_bits: int, n: int) -> None:
        """Raises InvalidInput: no keys, the same version of an issuer's key twice, sizes out of range, more than MAX_UNITS units."""
        check_sizes(nonce_bits, n)
        if not keys:
            raise InvalidInput("No issuer keys to try. Create one with: countersign keys create NAME")
        given = Counter((key.name, key.version) for key in keys)
        if len(given) < len(keys):
            twice = sorted(identity for identity, times in given.items() if times > 1)
            raise InvalidInput(f"Issuer given twice: {', '.join(f'{name} (key version {version})' for name, version in twice)}.")
        self.keys, self.nonce_bits, self.n = tuple(keys), nonce_bits, n
        self.units = len(keys) << nonce_bits
        if self.units > MAX_UNITS:
            raise InvalidInput(f"{self.units:,} issuers x nonces are more than the {MAX_UNITS:,} that can be tried. Name fewer issuers.")
        self._groups = [self._group(bits) for bits in sorted({key.payload_bits for key in keys})]

    @property
    def candidates(self) -> int:
        """Codewords in the book: issuers x payloads x nonces."""
        return sum(len(group.packed) << group.bits for group in self._groups)

    @property
    def work(self) -> int:
        """Cost of one search for the best codeword, in comparisons of a codeword with evidence."""
        return sum(len(g.packed) << g.bits if g.exhaustive else len(g.packed) * LIST_WORK for g in self._groups)

    def trials(self, candidate: Candidate) -> int:
        """What the p-value of this candidate pays for: all units, each with as many codewords as its own (may be beyond 2^64)."""
        return self.units << candidate.payload_bits

    def best(self, totals: Totals) -> Best:
        """The codeword that each row of evidence (rows, n) speaks for most, every issuer's payload size taken into account.

        Issuers with different payload sizes are compared by z²/2 - bits·ln 2, the exponents of their p-values.
        """
        norms = np.maximum(np.linalg.norm(totals, axis=1), 1e-30)
        found: list[Best] = []
        for group in self._groups:
            units, values = self._search(group, totals)
            candidates = [self._candidate(group, int(u), int(v)) for u, v in zip(units, values, strict=True)]
            signs = unpack_signs(group.packed[units], self.n)
            if group.bits:
                signs = signs * payload_code(group.bits, self.n).encode([int(v) for v in values])
            # Float32 found the best; its statistic is taken in full precision.
            found.append(Best(candidates, signs, np.einsum("rn,rn->r", signs.astype(np.float64), totals.astype(np.float64))))
        if len(found) == 1:
            return found[0]
        exponents = [np.maximum(b.statistics / norms, 0) ** 2 / 2 - g.bits * np.log(2) for b, g in zip(found, self._groups, strict=True)]
        choice = np.argmax(exponents, axis=0)
        return Best(
            [found[c].candidates[row] for row, c in enumerate(choice)],
            np.stack([found[c].signs[row] for row, c in enumerate(choice)]),
            np.array([found[c].statistics[row] for row, c in enumerate(choice)]),
        )

    def rivals(self, total: Totals, issuer: str, version: int = 1) -> tuple[list[int], NDArray[np.float64]]:
        """Payloads of one issuer's key that could be meant, whatever the nonce, with their statistics Σ s·e; for `posterior`.

        Of an exhaustive search those that are not `NEGLIGIBLE`, at most `RIVALS`; else those the list decoder ended with. total (n,).
        """
        key = next(key for key in self.keys if (key.name, key.version) == (issuer, version))
        nonces, values, statistics = Codebook([key], self.nonce_bits, self.n)._rivals(total)
        return [payload_of(key, int(u), int(v)) for u, v in zip(nonces, values, strict=True)], statistics

    def _group(self, bits: int) -> _Group:
        keys = tuple(key for key in self.keys if key.payload_bits == bits)
        if bits:
            payload_code(bits, self.n)  # refuses payloads that do not fit
        return _Group(bits, keys, np.concatenate([masks(key, range(1 << self.nonce_bits), self.n) for key in keys]))

    def _candidate(self, group: _Group, unit: int, value: int) -> Candidate:
        position, nonce = divmod(unit, 1 << self.nonce_bits)
        key = group.keys[position]
        return Candidate(key.name, payload_of(key, nonce, value) if group.bits else 0, group.bits, nonce, key.version)

    def _search(self, group: _Group, totals: Totals) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Unit and code value of the best codeword for each row."""
        best = np.full(len(totals), -np.inf)
        units, values = np.zeros(len(totals), dtype=np.int64), np.zeros(len(totals), dtype=np.uint64)

        def offer(row: int | slice, unit: NDArray, value: NDArray, statistic: NDArray) -> None:
            better = statistic > best[row]
            best[row] = np.where(better, statistic, best[row])
            units[row] = np.where(better, unit, units[row])
            values[row] = np.where(better, value, values[row])

        if not group.exhaustive:
            for row, total in enumerate(totals):
                for found in self._listed(group, total):
                    top = found[2].argmax() if len(found[2]) else None
                    if top is not None:
                        offer(row, *(column[top] for column in found))
            return units, values
        everything = slice(None)
        if not group.bits:
            for first, signs in self._chunks(group, CHUNK_UNITS):
                statistics = totals.astype(np.float32) @ signs.T
                top = statistics.argmax(axis=1)
                offer(everything, first + top, np.zeros_like(top), statistics[np.arange(len(totals)), top])
            return units, values
        for row, total in enumerate(totals):
            for first, statistics in self._all(group, total):
                top = int(statistics.argmax())
                unit, value = divmod(top, 1 << group.bits)
                offer(row, np.asarray(first + unit), np.asarray(value, dtype=np.uint64), np.asarray(statistics.flat[top]))
        return units, values

    def _rivals(self, total: Totals) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.float64]]:
        """Of a book of one key: (nonce, code value, statistic) of everything that could be meant."""
        group = self._groups[0]
        if not group.exhaustive:
            return next(self._listed(group, total))
        statistics = np.concatenate([s for _, s in self._all(group, total)]).ravel()
        best = float(statistics.max())
        # The exponent that `posterior` gives a message is at least S·best / |e|².
        likely = np.flatnonzero((best - statistics) * best <= NEGLIGIBLE * float(np.square(total).sum()))
        if len(likely) > RIVALS:
            likely = likely[np.argpartition(-statistics[likely], RIVALS)[:RIVALS]]
        likely = likely[np.argsort(-statistics[likely], kind="stable")]
        nonces, values = np.divmod(likely, 1 << group.bits)
        return nonces, values.astype(np.uint64), statistics[likely].astype(np.float64)

    def _all(self, group: _Group, total: Totals) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """Statistics of all codewords of an exhaustive group: (first unit, (units, 2^bits)) a chunk at a time."""
        code = payload_code(group.bits, self.n)
        for first, signs in self._chunks(group, min(CHUNK_UNITS, max(1, CHUNK_STATISTICS >> group.bits))):
            yield first, code.statistics(signs * total.astype(np.float32))

    def _listed(self, group: _Group, total: Totals) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.float64]]]:
        """(unit, code value, statistic) of what the list decoder finds likely, for some units at a time."""
        code = payload_code(group.bits, self.n)
        energy = float(np.square(total, dtype=np.float64).sum())
        scale = 2 * RATIO_SCALE / max(np.sqrt(energy) * (1 - RATIO_SCALE**2 / max(self.n, 2 * RATIO_SCALE**2)), 1e-30)
        for first, signs in self._chunks(group, LIST_UNITS):
            masked = signs * total.astype(np.float32)
            values, rows = code.decode((scale * masked).astype(np.float32))
            statistics = np.einsum("rn,rn->r", code.encode(values).astype(np.float64), masked[rows].astype(np.float64))
            yield first + rows, np.array(values, dtype=np.uint64), statistics

    def _chunks(self, group: _Group, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for first in range(0, len(group.packed), size):
            yield first, unpack_signs(group.packed[first : first + size], self.n).astype(np.float32)


@functools.lru_cache(maxsize=8)
def codebook(keys: tuple[IssuerKey, ...], nonce_bits: int, n: int) -> Codebook:
    """The book of these keys; the latest few are kept, because expanding 10,000 issuers takes longer than searching them."""
    return Codebook(keys, nonce_bits, n)
