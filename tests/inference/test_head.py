"""The output head in 4 bits, whose likely tokens are repeated in 8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from watermark.errors import BaseModelError
from watermark.inference.openvino.files import ROWS
from watermark.inference.openvino.graph import compile_head
from watermark.inference.openvino.head import CHUNK, GROUP, REPEATED, Head
from watermark.inference.openvino.rounding import write_rounded

HIDDEN = 2 * GROUP
WIDTH = 20
CLOSE = 0.06
"""What 8 bits are off by at most, of logits with a deviation of 3."""


def made(folder: Path, vocabulary: int) -> tuple[Head, np.ndarray, np.ndarray]:
    """A head, the weight it was made of, and states. As in a language model, what logits have in common dwarfs what sets them apart."""
    rng = np.random.default_rng(vocabulary)
    shared, own = rng.normal(size=(1, HIDDEN)), rng.normal(size=(vocabulary, HIDDEN)) * rng.lognormal(sigma=0.5, size=HIDDEN)
    weight = (2.0 * shared + own).astype(np.float32)
    write_rounded(weight, folder)
    states = (rng.normal(size=(6, HIDDEN)) + 0.3 * shared).astype(np.float32) / HIDDEN**0.5
    return Head(compile_head(openvino.Core(), folder, rounded=True, threads=2), folder, rounded=True), weight, states


@pytest.mark.parametrize(
    "vocabulary", [50, REPEATED, 1000, 60 * CHUNK, REPEATED * CHUNK + 5, 3 * REPEATED * CHUNK], ids="vocabulary {}".format
)
def test_the_likeliest_tokens_have_the_logits_of_the_weight(tmp_path: Path, vocabulary: int):
    """Also where the vocabulary is smaller than what is repeated, or no multiple of a chunk."""
    head, weight, states = made(tmp_path, vocabulary)
    wanted = torch.from_numpy(states @ weight.T)
    logits = head(states)
    values, ids = head.likeliest(logits, WIDTH)
    expected = wanted.topk(WIDTH)
    assert torch.allclose(values, expected.values, atol=CLOSE)
    found = wanted.gather(1, ids).sort(descending=True).values
    assert torch.allclose(found, expected.values, atol=CLOSE), "another token only where two are all but equal"
    errors = logits - wanted
    assert ((errors.abs() < CLOSE).sum(dim=1) >= min(REPEATED, vocabulary)).all()
    assert float(errors.std()) < 0.1 * float(wanted.std())
    if vocabulary > 2 * REPEATED:
        assert float(errors.std()) > 0.03, "the others are rounded, or the test shows nothing"


def test_a_row_is_the_same_alone_and_beside_others(tmp_path: Path):
    head, _, states = made(tmp_path, 3000)
    together = head(states).clone()
    for row in range(len(states)):
        assert torch.equal(head(states[row : row + 1])[0], together[row])


@pytest.mark.parametrize("vocabulary", [3000, 2 * REPEATED * CHUNK])
def test_more_are_repeated_where_more_are_drawn_from(tmp_path: Path, vocabulary: int):
    """And a row finds the same tokens as beside one that wants fewer."""
    head, weight, states = made(tmp_path, vocabulary)
    few = head.likeliest(head(states), WIDTH)[1]
    logits = head(states)
    values, ids = head.likeliest(logits, 500)
    assert torch.equal(ids[:, :WIDTH], few)
    wanted = torch.from_numpy(states @ weight.T).topk(500).values
    assert torch.allclose(values, wanted, atol=CLOSE) and torch.equal(values, logits.gather(1, ids))
    assert torch.equal(head.likeliest(logits, vocabulary)[0], logits.sort(dim=1, descending=True).values)


def test_files_of_another_head_are_refused(tmp_path: Path):
    made(tmp_path, 300)
    np.save(tmp_path / ROWS, np.zeros((200, HIDDEN), np.int8))
    with pytest.raises(BaseModelError, match="do not fit each other"):
        Head(compile_head(openvino.Core(), tmp_path, rounded=True, threads=1), tmp_path, rounded=True)


def test_the_largest_come_before_many_that_are_alike(tmp_path: Path):
    """Vocabularies have hundreds of unused tokens with one and the same row."""
    weight = np.zeros((2000, GROUP), np.float32)
    weight[:, 0] = 1.0
    weight[[700, 1500], 0] = 3.0, 2.0
    write_rounded(weight, tmp_path)
    head = Head(compile_head(openvino.Core(), tmp_path, rounded=True, threads=1), tmp_path, rounded=True)
    assert head.likeliest(head(np.eye(1, GROUP, dtype=np.float32)), 3)[1][0, :2].tolist() == [700, 1500]


def test_states_that_are_no_numbers_end_in_no_crash(tmp_path: Path):
    head, _, states = made(tmp_path, 3000)
    states[2] = np.nan
    values, ids = head.likeliest(head(states), WIDTH)
    assert torch.isfinite(values[[0, 1, 3, 4, 5]]).all() and ids.min() >= 0 and ids.max() < 3000


def test_a_weight_of_nothing(tmp_path: Path):
    """Rows of tokens that do not exist are zero in many vocabularies."""
    weight = np.zeros((300, GROUP), np.float32)
    weight[:10, 0] = np.arange(1, 11)
    write_rounded(weight, tmp_path)
    head = Head(compile_head(openvino.Core(), tmp_path, rounded=True, threads=1), tmp_path, rounded=True)
    logits = head(np.eye(1, GROUP, dtype=np.float32))
    assert torch.allclose(logits[0], torch.from_numpy(weight[:, 0]), atol=0.05)
    assert head.likeliest(logits, 3)[1].tolist() == [[9, 8, 7]]
