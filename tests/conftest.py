"""For every test: nothing touches the keys of the person who runs them, and every run draws the same keys."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.registry import DEFAULT_BASE_MODEL
from watermark.codebook import keys
from watermark.folders import cache_folder


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys go to a folder of this test alone. The model cache stays where it is: converting takes minutes."""
    home = tmp_path / "countersign-home"
    monkeypatch.setenv("COUNTERSIGN_HOME", str(home))
    return home


@pytest.fixture(scope="session", autouse=True)
def tidy_conversions() -> Iterator[None]:
    """Tests convert tiny models of theirs into the model cache; they are taken out again. The default model's conversion stays."""
    folder = cache_folder() / "openvino"
    before = set(folder.glob("*"))
    yield
    for path in set(folder.glob("*")) - before:
        if not path.name.startswith(DEFAULT_BASE_MODEL):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture(autouse=True)
def repeatable_keys(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets that follow from the name of the test.

    With fresh ones every run would be a new draw from the null, and each "this unmarked text is not detected" would fail once in
    1 / false-positive rate runs, rightly and uselessly. The false-positive rate itself is measured where it is the subject.
    """
    draws = count()

    def token_bytes(size: int) -> bytes:
        return hashlib.shake_256(f"{request.node.nodeid} {next(draws)}".encode()).digest(size)

    if "fresh_secrets" not in request.keywords:
        monkeypatch.setattr(keys, "secrets", SimpleNamespace(**{**vars(secrets), "token_bytes": token_bytes}))
