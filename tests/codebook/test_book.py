"""The codebook's search against brute force, for every way it searches."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from watermark.codebook import book as module
from watermark.codebook.book import Candidate, Codebook, codebook
from watermark.codebook.codewords import codeword
from watermark.codebook.keys import IssuerKey
from watermark.errors import InvalidInput

N = 256


def key(name: str, bits: int = 0) -> IssuerKey:
    return IssuerKey(name, name.encode().ljust(32, b"."), bits)


def rotated(name: str, version: int, bits: int = 0) -> IssuerKey:
    return IssuerKey(name, f"{name} {version}".encode().ljust(32, b"."), bits, version=version)


def everything(keys: list[IssuerKey], nonce_bits: int) -> list[tuple[Candidate, np.ndarray]]:
    return [
        (Candidate(k.name, p, k.payload_bits, q, k.version), codeword(k, p, q, nonce_bits, N).astype(float))
        for k in keys
        for p, q in itertools.product(range(2**k.payload_bits), range(2**nonce_bits))
    ]


@pytest.mark.parametrize("bits", [0, 1, 5, 8])
def test_the_best_is_that_of_brute_force(bits: int) -> None:
    keys = [key("a", bits), key("b", bits), key("c", bits)]
    book, words = Codebook(keys, 2, N), everything(keys, 2)
    assert book.candidates == len(words) and book.units == 12
    totals = np.random.default_rng(bits).normal(size=(20, N))
    best = book.best(totals)
    for row, total in enumerate(totals):
        candidate, signs = max(words, key=lambda item: float(item[1] @ total))
        assert best.candidates[row] == candidate and np.array_equal(best.signs[row], signs)
        assert best.statistics[row] == pytest.approx(float(signs @ total), rel=1e-12)


def test_the_best_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, totals = [key(f"k{i}", 3) for i in range(5)], np.random.default_rng(0).normal(size=(6, N))
    whole = Codebook(keys, 2, N).best(totals)
    monkeypatch.setattr(module, "CHUNK_UNITS", 3)
    assert Codebook(keys, 2, N).best(totals).candidates == whole.candidates


@pytest.mark.parametrize("bits", [8, 32, 64])
def test_a_message_is_found_by_list_as_well(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXHAUSTIVE", 1)
    keys, rng = [key("a", bits), key("b", bits)], np.random.default_rng(bits)
    book = Codebook(keys, 4, 1024)
    for nonce in (0, 15):
        payload = int(rng.integers(0, 2**bits, dtype=np.uint64))
        total = codeword(keys[1], payload, nonce, 4, 1024) / 2 + rng.normal(size=1024)
        best = book.best(total[None])
        assert best.candidates == [Candidate("b", payload, bits, nonce)]
        assert best.statistics[0] == pytest.approx(float(codeword(keys[1], payload, nonce, 4, 1024) @ total))


def test_issuers_with_long_payloads_do_not_drown_those_with_none() -> None:
    """The best of 2^64 random codewords beats a plain one's true mark in z, but not in its p-value."""
    plain, long = key("plain"), key("long", 64)
    total = codeword(plain, 0, 3, 4, 1024) * 0.25 + np.random.default_rng(0).normal(size=1024)
    best = Codebook([plain, long], 4, 1024).best(total[None])
    assert best.candidates[0] == Candidate("plain", 0, 0, 3)


@pytest.mark.parametrize("bits", [8, 24])
def test_rivals_contain_the_message_first(bits: int) -> None:
    k = key("a", bits)
    total = codeword(k, 200, 1, 2, 1024) / 2 + np.random.default_rng(0).normal(size=1024)
    payloads, statistics = Codebook([k, key("b")], 2, 1024).rivals(total, "a")
    top = int(np.argmax(statistics))
    assert payloads[top] == 200
    assert statistics[top] == pytest.approx(float(codeword(k, 200, 1, 2, 1024) @ total), rel=1e-5)


@pytest.mark.parametrize("bits", [(0, 0), (8, 8), (0, 16)])
def test_the_versions_of_one_issuer_are_told_apart(bits: tuple[int, int]) -> None:
    keys = [rotated("a", version, size) for version, size in enumerate(bits, start=1)]
    book = Codebook(keys, 2, 1024)
    assert book.units == 8
    for k in keys:
        payload = 2**k.payload_bits - 1
        total = codeword(k, payload, 3, 2, 1024) / 2 + np.random.default_rng(0).normal(size=1024)
        assert book.best(total[None]).candidates == [Candidate("a", payload, k.payload_bits, 3, k.version)]
        if k.payload_bits:
            payloads, statistics = book.rivals(total, "a", k.version)
            assert payloads[int(np.argmax(statistics))] == payload


def test_trials_count_what_a_candidate_competed_with() -> None:
    book = Codebook([key("a"), key("b", 8)], 3, N)
    assert book.trials(Candidate("a", 0, 0, 0)) == 16
    assert book.trials(Candidate("b", 0, 8, 0)) == 16 * 256


def test_books_that_cannot_be() -> None:
    with pytest.raises(InvalidInput, match="No issuer keys"):
        Codebook([], 4, N)
    with pytest.raises(InvalidInput, match=r"twice: a \(key version 1\)"):
        Codebook([key("a"), key("a")], 4, N)
    with pytest.raises(InvalidInput, match=r"twice: b \(key version 3\)\."):
        Codebook([key("a"), rotated("b", 3), rotated("b", 2), rotated("b", 3)], 4, N)
    with pytest.raises(InvalidInput, match="needs codewords"):
        Codebook([key("a", 64)], 4, 64)
    with pytest.raises(InvalidInput, match="nonce_bits"):
        Codebook([key("a")], 17, N)


def test_the_latest_books_are_kept() -> None:
    assert codebook((key("a"),), 2, N) is codebook((key("a"),), 2, N)
    assert codebook((key("a"),), 2, N) is not codebook((key("b"),), 2, N)


def test_large_books_are_quick() -> None:
    """0.03 s for 2^20 candidates and 0.03 s for 2^68 on an idle core; bounds only catch another order of growth."""
    totals = np.random.default_rng(0).normal(size=(1, 1024))
    for bits in (16, 64):
        book = Codebook([key("a", bits)], 4, 1024)
        start = time.process_time()
        book.best(totals)
        assert time.process_time() - start < 2.0
