"""For every test: nothing touches the keys of the person who runs them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys go to a folder of this test alone. The model cache stays where it is: converting takes minutes."""
    home = tmp_path / "countersign-home"
    monkeypatch.setenv("COUNTERSIGN_HOME", str(home))
    return home
