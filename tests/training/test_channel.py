"""The edit channel keeps the correspondence that training relies on."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.training.channel import FOREIGN, Edits, apply_edits, draw_edits

IDS = np.arange(1000, 1200)
POOL = np.arange(5, 50)


def edit(**rates):
    return apply_edits(IDS, Edits(**rates), POOL, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(20))
def test_surviving_tokens_stay_themselves_and_in_order(seed):
    rng = np.random.default_rng(seed)
    edited = apply_edits(IDS, draw_edits(rng), POOL, rng)
    ours = edited.origin != FOREIGN
    assert (edited.ids[ours] == IDS[edited.origin[ours]]).all()
    assert (np.diff(edited.origin[ours]) > 0).all(), "each original token survives at most once, in order"
    assert np.isin(edited.ids[~ours], POOL).all()


def test_no_edits_change_nothing():
    edited = edit()
    assert (edited.ids == IDS).all() and (edited.origin == np.arange(200)).all()


@pytest.mark.parametrize("run", [1.0, 3.0])
def test_rates_are_what_they_say(run):
    rng = np.random.default_rng(0)
    ids = np.arange(100_000) + 1000
    deleted = apply_edits(ids, Edits(delete=0.2, run=run), POOL, rng)
    assert abs(len(deleted.ids) / 100_000 - 0.8) < 0.03
    swapped = apply_edits(ids, Edits(substitute=0.2, run=run), POOL, rng)
    assert len(swapped.ids) == 100_000 and abs((swapped.origin == FOREIGN).mean() - 0.2) < 0.03
    inserted = apply_edits(ids, Edits(insert=0.2, run=run), POOL, rng)
    assert abs(len(inserted.ids) / 100_000 - 1.2) < 0.03 and (inserted.origin != FOREIGN).sum() == 100_000


def test_a_crop_is_one_span():
    rng = np.random.default_rng(3)
    lengths = []
    for _ in range(50):
        cropped = apply_edits(IDS, Edits(crop=0.5), POOL, rng)
        assert (np.diff(cropped.origin) == 1).all()
        lengths.append(len(cropped.ids))
    assert min(lengths) >= 100 and max(lengths) > 180
