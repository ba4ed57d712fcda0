"""The default model in vLLM, on the CPU. What it writes is read by Countersign in its own environment, the one of the repository."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.registry import DEFAULT_BASE_MODEL, prepare_base_model
from watermark.codebook.keys import KeyRing

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("COUNTERSIGN_VLLM_ISSUER", None)

COMMAND = Path(__file__).parents[3] / ".venv" / "bin" / "countersign"


@pytest.fixture(scope="session")
def folder() -> str:
    """Of the default model, converted if need be."""
    return str(prepare_base_model(DEFAULT_BASE_MODEL))


@pytest.fixture(scope="session", autouse=True)
def keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two issuers: acme with 8 bits of payload, newsroom without. In the environment before any engine starts. Their secrets are always the
    same, and so are the texts."""
    home = Path(tmp_path_factory.mktemp("home"))
    os.environ["COUNTERSIGN_HOME"] = str(home)
    ring = KeyRing(home / "keys")
    for name, bits in (("acme", 8), ("newsroom", 0)):
        ring.create(name, bits)
        record = json.loads(ring.path(name).read_text())
        ring.path(name).write_text(json.dumps({**record, "secret": hashlib.sha256(name.encode()).hexdigest()}))


class Countersign:
    """The command line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def verify(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """One verdict a text, as the default backend reads it."""
        given, found = self._folder / "texts.jsonl", self._folder / "verdicts.jsonl"
        given.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        found.unlink(missing_ok=True)
        self._run("verify", "--texts", str(given), "--out", str(found))
        return [json.loads(line) for line in found.read_text().splitlines()]

    def generate(self, prompt: str, seed: int, issuer: str, payload: str, tokens: int) -> str:
        """In float32, as the model is run here."""
        length = ("--max-new-tokens", str(tokens), "--min-new-tokens", str(tokens))
        order = ("--issuer", issuer, "--payload", payload, "--seed", str(seed), *length)
        return json.loads(self._run("generate", prompt, *order, "--backend", "torch", "--json"))["text"]

    def _run(self, *arguments: str) -> str:
        run = subprocess.run([COMMAND, *arguments], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run.stdout


@pytest.fixture(scope="session")
def countersign(tmp_path_factory: pytest.TempPathFactory) -> Countersign:
    assert COMMAND.is_file(), f"{COMMAND} is not there: run `make venv` in the repository first"
    return Countersign(Path(tmp_path_factory.mktemp("countersign")))
