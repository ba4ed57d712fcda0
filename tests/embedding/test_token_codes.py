"""Token codes: made once for a vocabulary."""

from __future__ import annotations

import numpy as np

from tests.fakes import fake_lm
from watermark.embedding.token_codes import cached_table, code_table, vocabulary_surfaces


def test_a_table_is_kept_and_a_damaged_one_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERSIGN_CACHE", str(tmp_path))
    lm = fake_lm()
    table = cached_table(lm, 64, "salt")
    assert np.array_equal(table, code_table(vocabulary_surfaces(lm), 64, "salt"))
    (kept,) = tmp_path.rglob("*.npy")
    assert np.array_equal(cached_table(fake_lm(), 64, "salt"), table)
    assert not np.array_equal(cached_table(lm, 64, "other salt"), table)
    for damage in (kept.read_bytes()[:-9], b"", b"nothing"):
        kept.write_bytes(damage)
        assert np.array_equal(cached_table(lm, 64, "salt"), table)
    monkeypatch.setenv("COUNTERSIGN_CACHE", str(kept))  # no folder can be made there
    assert np.array_equal(cached_table(lm, 64, "salt"), table)
    assert not list(tmp_path.rglob("*.partial"))
