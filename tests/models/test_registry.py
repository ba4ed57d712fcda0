"""Names of base models and checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest

from models.registry import (
    DEFAULT_BASE_MODEL,
    REGISTRY,
    default_checkpoint,
    load_base_model,
    load_torch_model,
    prepare_base_model,
    resolve_checkpoint,
)
from models.shipped import shipped_checkpoints
from tests.fakes import fake_lm
from watermark.errors import BaseModelError, CheckpointError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network whatever the machine has."""
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["", "gemma", "no such model", "./x", "../x", "a/b/c", "owner/na me", "/no/such/folder", "x/", "\0"])
def test_unknown_names_list_what_there_is(name: str) -> None:
    with pytest.raises(BaseModelError, match=f"{DEFAULT_BASE_MODEL}.*folder.*Hugging Face id"):
        load_base_model(name)


def test_a_hub_that_cannot_be_reached(hub: Path) -> None:
    with pytest.raises(BaseModelError, match="'owner/model' is not in the local cache and the hub cannot be reached"):
        load_base_model("owner/model")


def test_a_hub_id_in_the_local_cache_loads_offline(hub: Path) -> None:
    commit = "0" * 40
    repository = hub / "models--owner--tiny"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    lm = fake_lm()
    lm.model.save_pretrained(snapshot)
    lm.tokenizer.save_pretrained(snapshot)
    loaded = load_torch_model("owner/tiny")
    assert loaded.name == "owner/tiny" and loaded.layer_count == 3


def test_a_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert prepare_base_model("owner/model") == Path("owner/model")
    with pytest.raises(BaseModelError, match=r"lacks config\.json"):
        load_base_model("owner/model")


def test_checkpoints_by_folder_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        resolve_checkpoint(tmp_path / "mine")
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert resolve_checkpoint(tmp_path / "mine") == tmp_path / "mine"
    for name in shipped_checkpoints():
        assert resolve_checkpoint(name).name == name
    for name in ("no-such-checkpoint", "../checkpoints", ""):
        with pytest.raises(CheckpointError, match="Shipped: "):
            resolve_checkpoint(name)


def test_every_registered_model_has_its_checkpoint() -> None:
    for name, model in REGISTRY.items():
        assert default_checkpoint(name).name == model.checkpoint
    with pytest.raises(CheckpointError, match="Train one"):
        default_checkpoint("owner/other")


def test_a_shipped_name_is_not_taken_by_a_folder_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command does must not depend on where it was started."""
    [name, *_] = shipped_checkpoints()
    monkeypatch.chdir(tmp_path)
    shutil.copytree(resolve_checkpoint(name), tmp_path / name)
    assert resolve_checkpoint(name).is_absolute()
