"""From a book too large to try on every window to the few codewords that are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np

from watermark.localisation.windows import window_totals

BUDGET = 2**23
"""Codeword comparisons that probing may cost, in units of `Decoder.work`: a quarter of a second."""
FEWEST = 4
"""Windows probed whatever the budget."""
CODEWORDS = 64
"""Codewords kept: more spans of different codewords than this are not found in one text."""
CHUNK = 4096
"""Windows held at a time: 32 MiB for 1,024 signs."""


Known = Sequence[tuple[Hashable, np.ndarray]]
"""Candidates with their signs (n,)."""


class Best(Protocol):
    """The best codeword for each of w rows of evidence."""

    @property
    def signs(self) -> np.ndarray:
        """int8 (w, n) of ±1."""
        ...

    @property
    def statistics(self) -> np.ndarray:
        """(w,): signs · total."""
        ...

    @property
    def candidates(self) -> Sequence[Hashable]:
        """What each codeword stands for, length w; equal means the same codeword."""
        ...


class Decoder(Protocol):
    """What a codebook offers to the search."""

    def trials(self, candidate: Any) -> int:
        """What a p-value of this candidate pays for: every codeword that could have come in its place. May be beyond 2^64."""
        ...

    @property
    def work(self) -> int:
        """Cost of decoding one row, in comparisons with one codeword."""
        ...

    def best(self, totals: np.ndarray) -> Best:
        """The best codeword, or a good one, for each row of `totals` (w, n)."""
        ...


def probe(sums: np.ndarray, windows: np.ndarray, book: Decoder, known: Known = ()) -> tuple[list[Hashable], np.ndarray, np.ndarray]:
    """The most promising candidates of any probed window, at most CODEWORDS: they, their signs, int8 (k, n), and ln trials (k,).

    All windows are probed where `BUDGET` allows, otherwise those of `_spread`. `known` are codewords to try in any case.
    """
    chosen = windows[_spread(windows, max(FEWEST, BUDGET // max(book.work, 1)))]
    found: dict[Hashable, tuple[float, np.ndarray]] = {candidate: (np.inf, signs) for candidate, signs in known}
    for first in range(0, len(chosen), CHUNK):
        totals = window_totals(sums, chosen[first : first + CHUNK])
        best = book.best(totals)
        tried = np.array([math.log(book.trials(candidate)) for candidate in best.candidates])
        promise = exponents(best.statistics / norms(totals), tried)
        for row in np.argsort(-promise, kind="stable"):
            candidate = best.candidates[row]
            if candidate not in found or promise[row] > found[candidate][0]:
                found[candidate] = float(promise[row]), best.signs[row]
        # One that is dropped here and does better in a later chunk comes back: nothing is lost.
        found = dict(sorted(found.items(), key=lambda item: -item[1][0])[:CODEWORDS])
    signs = np.array([signs for _, signs in found.values()], dtype=np.int8)
    return list(found), signs, np.array([math.log(book.trials(candidate)) for candidate in found])


def score(sums: np.ndarray, windows: np.ndarray, signs: np.ndarray, tried: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each window the highest exponent of the k codewords `signs` (k, n), (w,), and which codeword has it (w,)."""
    highest, which = np.empty(len(windows)), np.empty(len(windows), dtype=np.int64)
    codewords = signs.T.astype(np.float32)
    for first in range(0, len(windows), CHUNK):
        totals = window_totals(sums, windows[first : first + CHUNK])
        promise = exponents((totals.astype(np.float32) @ codewords) / norms(totals)[:, None], tried)
        rows = slice(first, first + len(totals))
        which[rows], highest[rows] = promise.argmax(axis=1), promise.max(axis=1)
    return highest, which


def exponents(z: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """z²/2 - ln trials: about -ln of the corrected p-value (Hoeffding), by which codewords with unequal payloads are compared."""
    return np.square(np.maximum(z, 0.0)) / 2.0 - tried


def norms(totals: np.ndarray) -> np.ndarray:
    """|E| of each row of `totals` (w, n), the null standard deviation of its statistic; never 0, so that 0 / 0 is z = 0."""
    return np.maximum(np.sqrt(np.einsum("wn,wn->w", totals, totals)), np.finfo(np.float64).tiny)


def _spread(windows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` rows of `windows`: first every other one of each size (they still overlap by half), the longest first.

    Long windows come first because they cover the text with few decodings, and a mark that fills a tenth of its window is
    diluted only by √10: found once, its codeword is scored on every window. The size that no longer fits is spread evenly.
    """
    if len(windows) <= most:
        return np.arange(len(windows))
    changes = np.flatnonzero(np.diff(windows[:, 0]) <= 0) + 1  # listed by size, and each size begins at 0
    sizes = np.split(np.arange(len(windows)), changes)
    rows: list[int] = []
    for part in [size[::2] for size in reversed(sizes)] + [size[1::2] for size in reversed(sizes)]:
        room = min(len(part), most - len(rows))
        rows.extend(part[(2 * np.arange(room) + 1) * len(part) // (2 * max(room, 1))])
    return np.array(rows)
