from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from watermark.inference.openvino.table_file import TableFile


@pytest.mark.parametrize("reads_places", [True, False], ids=["read", "mapped"])
def test_rows_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads_places: bool):
    if not reads_places:
        monkeypatch.delattr(os, "preadv")
    table = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float16)
    np.save(tmp_path / "table.npy", table)
    ids = np.array([49, 0, 3, 3])
    found = TableFile(tmp_path / "table.npy")[ids]
    assert found.dtype == np.float32 and np.array_equal(found, table[ids].astype(np.float32))
    assert TableFile(tmp_path / "table.npy")[np.array([], np.int64)].shape == (0, 7)
    with pytest.raises(IndexError):
        TableFile(tmp_path / "table.npy")[np.array([50])]
