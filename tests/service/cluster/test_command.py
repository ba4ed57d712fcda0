"""`countersign serve --engine ray`, as a person starts and stops it, and what `serve run` builds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from ray.serve import Application

from service.cluster.application import build
from service.settings import build_settings
from tests.fakes import saved_fake_and_pair
from tests.service.harness import until
from watermark.errors import InvalidInput

SERVE = [sys.executable, "-m", "watermark.cli.main", "serve"]


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake model and its pair as folders, as a user would have them."""
    return saved_fake_and_pair(tmp_path_factory.mktemp("on_disk"))


def test_it_serves_until_it_is_stopped(on_disk: Path, tmp_path: Path) -> None:
    model = ["--base-model", str(on_disk / "model"), "--checkpoint", str(on_disk / "pair")]
    command = [*SERVE, *model, "--engine", "ray", "--port", "0", "--json"]
    environment = {**os.environ, "COUNTERSIGN_HOME": str(tmp_path / "home"), "COUNTERSIGN_BACKEND": "torch"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        announced = json.loads(process.stdout.readline())
        with httpx.Client(base_url=announced["url"], timeout=60) as client:

            def ready() -> bool:
                assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
                try:
                    return client.get("/readyz").status_code == 200
                except httpx.TransportError:
                    return False

            until(ready, "the service to be ready", 120)
            answer = client.post("/generate", json={"prompt": "a prompt", "max_new_tokens": 200, "min_new_tokens": 200, "seed": 1})
            assert answer.status_code == 200, answer.text
            text = answer.json()["results"][0]["text"]
            verdict = client.post("/verify", json={"text": text}).json()["results"][0]
            assert (verdict["verdict"], verdict["issuer"]) == ("marked", announced["issuer_created"])
            long = {"prompt": ["a prompt"] * 8, "max_new_tokens": 400, "min_new_tokens": 400}
            with ThreadPoolExecutor(1) as pool:  # in work when the service is told to stop
                asked = pool.submit(client.post, "/generate", json=long)
                until(lambda: "countersign_running_prompts 8" in client.get("/metrics").text, "the prompts to be in work", 10)
                process.send_signal(signal.SIGTERM)
                assert asked.result().status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_numbers_of_replicas_go_with_ray() -> None:
    run = subprocess.run([*SERVE, "--generation-replicas", "2"], capture_output=True, text=True)
    assert run.returncode == 2 and "go with --engine ray" in run.stderr and "Traceback" not in run.stderr


def authenticated(app: Application) -> bool:
    """What the ingress of an application will do."""
    make_app = app._bound_deployment.init_args[0]
    return build_settings(**make_app.keywords).authenticated


def test_a_cluster_asks_for_keys_unless_it_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUNTERSIGN_AUTHENTICATION", raising=False)
    assert authenticated(build({}))
    monkeypatch.setenv("COUNTERSIGN_AUTHENTICATION", "false")
    assert not authenticated(build({}))


def test_arguments_of_serve_run_are_checked() -> None:
    with pytest.raises(InvalidInput, match="max_generation is less than generation"):
        build({"generation": "3", "max_generation": "2"})
    with pytest.raises(InvalidInput, match=r"replicas: .*The arguments are ingress, generation"):
        build({"replicas": "3"})
