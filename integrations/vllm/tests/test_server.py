"""Over HTTP: the message comes with each request, as `vllm_xargs`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Countersign

PROMPT = "The harbour was quiet that morning, and"


@pytest.fixture(scope="module")
def client(folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--served-model-name", "gemma"]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--enforce-eager",
        "--no-async-scheduling",
        "--max-model-len",
        "1024",
        "--max-num-seqs",
        "8",
    ]
    command += ["--hf-overrides", '{"architectures": ["Gemma3ForCausalLM"]}']
    environment = {**os.environ, "COUNTERSIGN_VLLM_ISSUER": "newsroom"}
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            deadline = time.monotonic() + 300
            while not alive(client):
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(1)
            yield client
    finally:
        server.terminate()
        server.wait(60)


def alive(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.HTTPError:
        return False


def complete(client: httpx.Client, xargs: dict[str, object] | None, **more: object) -> httpx.Response:
    body = {"model": "gemma", "prompt": PROMPT, "max_tokens": 100, "temperature": 1.0, "top_k": 64, "seed": 3, **more}
    return client.post("/v1/completions", json=body if xargs is None else {**body, "vllm_xargs": xargs})


def test_each_request_has_its_own_mark(client: httpx.Client, countersign: Countersign) -> None:
    asked = [{"countersign_issuer": "acme", "countersign_payload": "2a"}, None, {"countersign_issuer": "none"}]
    answers = [complete(client, xargs) for xargs in asked]
    assert [answer.status_code for answer in answers] == [200] * 3
    verdicts = countersign.verify([answer.json()["choices"][0]["text"] for answer in answers])
    assert [(verdict["issuer"], verdict["payload"]) for verdict in verdicts] == [("acme", "2a"), ("newsroom", None), (None, None)]


def test_a_bad_order_is_the_clients_fault(client: httpx.Client) -> None:
    answer = complete(client, {"countersign_issuer": "acme", "countersign_payload": "fff"})
    assert answer.status_code == 400 and "at most 8 bits" in answer.text
    answer = complete(client, {"countersign_issuer": "nobody"})
    assert answer.status_code == 400 and "No key named 'nobody'" in answer.text
    assert complete(client, None).status_code == 200
