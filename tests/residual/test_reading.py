"""What the extractor of the residual kinds makes of repeated and of padded tokens."""

from __future__ import annotations

import torch

from tests.residual.conftest import small
from watermark.residual.extractor import TextExtractor, shares


def everywhere(ids: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(ids, dtype=torch.bool)


def test_the_k_th_occurrence_of_a_token_counts_one_kth() -> None:
    ids = torch.tensor([[7, 3, 7, 7, 3, 0, 9], [1, 1, 1, 1, 1, 1, 1]])
    third = 1 / 3
    assert torch.allclose(shares(ids, everywhere(ids)), torch.tensor([[1, 1, 0.5, third, 0.5, 1, 1], [1 / k for k in range(1, 8)]]))


def test_shares_agree_with_counting_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    ids, valid = torch.randint(0, 12, (20, 50), generator=generator), torch.rand(20, 50, generator=generator) < 0.8
    found = shares(ids, valid)
    for row in range(20):
        seen: dict[int, int] = {}
        for place in range(50):
            token = int(ids[row, place])
            seen[token] = seen.get(token, 0) + int(valid[row, place])
            assert torch.isclose(found[row, place], torch.tensor(1 / seen[token] if valid[row, place] else 0.0))


def test_padding_has_no_evidence_and_changes_none() -> None:
    extractor = TextExtractor(small("gated")).eval()
    torch.nn.init.normal_(extractor.keys.weight, generator=torch.Generator().manual_seed(1))
    text, padding = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(2)), torch.full((1, 4, 32), 7.0)
    alone = extractor(text, torch.ones(1, 9))
    padded = extractor(torch.cat([text, padding], dim=1), torch.cat([torch.ones(1, 9), torch.zeros(1, 4)], dim=1))
    assert torch.allclose(padded[:, :9], alone, atol=1e-5) and not padded[:, 9:].any()
    assert alone.abs().max() > 0.1


def test_a_loop_says_little_more_than_the_word_once() -> None:
    extractor = TextExtractor(small("gated", reader_layers=0)).eval()
    word = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(3))
    ids = torch.full((1, 100), 5)
    once = extractor(word, torch.ones(1, 1)).sum(dim=1)
    loop = extractor(word.expand(1, 100, 32), shares(ids, everywhere(ids))).sum(dim=1)
    assert torch.allclose(loop, once * sum(1 / k for k in range(1, 101)), rtol=1e-3, atol=1e-4)  # 5.2 times, not 100
