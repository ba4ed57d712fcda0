"""The API's own process stays small: the model, and the libraries that run it, are other processes' business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "transformers", "openvino")
MIB = 200
FIRST_START = f"""
import json, sys, psutil
from models.registry import checkpoint_folder
from service import cli
from service.app import create_app
from service.engine.engine import BatchingEngine
from service.engine.loading import LoadModel
from service.first_start import first_issuers
from service.server import Server, server_config
from service.settings import build_settings
from service.storage.open import open_storage

settings = build_settings()
app = create_app(settings, engine=BatchingEngine(settings, LoadModel(settings.base_model, settings.checkpoint, settings.backend)))
server = Server(server_config(app, settings), app.state.runtime)
first = first_issuers(open_storage(settings), checkpoint_folder(settings.base_model, settings.checkpoint))
heavy = [name for name in {HEAVY} if name in sys.modules]
print(json.dumps({{"texts": first.check.texts, "heavy": heavy, "mib": psutil.Process().memory_info().rss / 2**20}}))
"""
"""All that `countersign serve` does in its own process before it is ready, with the key of the first issuer checked."""


def test_a_first_start_takes_neither_the_model_nor_its_libraries(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
    environment["COUNTERSIGN_HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", FIRST_START], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["texts"] > 0, "the check of a key is part of what is measured"
    assert found["heavy"] == []
    assert found["mib"] < MIB
