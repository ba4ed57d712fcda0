"""Clients that hang up, in the middle of anything."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from tests.service.harness import Served, until


def leave(served: Served, path: str, body: dict[str, object], cut: int | None = None) -> socket.socket:
    """Send a request, or its first `cut` bytes, as a client that will hang up; close the socket to do so."""
    url = served.client.base_url
    content = json.dumps(body).encode()
    connection = socket.create_connection((url.host, url.port or 80))
    head = f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall((head.encode() + content)[:cut])
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_places(served: Served, stream: bool) -> None:
    with served.holding():
        gone = leave(served, "/generate", {"prompt": ["left", "left"], "stream": stream})
        until(lambda: served.unfinished == 2, "two waiting prompts")
        gone.close()
        until(lambda: served.unfinished == 0, "the places to be given back")
    assert served.generate().status_code == 200


def test_hundreds_of_aborted_requests_and_still_alive(served: Served) -> None:
    paths = ("/generate", "/generate", "/verify", "/v1/completions")
    with served.holding():
        timers = []
        for i in range(300):
            path = paths[i % 4]
            body: dict[str, object] = {"text": "a"} if path == "/verify" else {"prompt": f"p{i}", "stream": i % 8 < 4}
            if path.startswith("/v1"):
                body["model"] = "fake-model"
            connection = leave(served, path, body, cut=None if i % 5 else 10 + i % 150)
            timers.append(threading.Timer(0.001 * (i % 20), connection.close))
            timers[-1].start()
        for timer in timers:
            timer.join()
        until(lambda: served.unfinished == 0, "all places to be given back")
    assert served.generate().status_code == served.verify("a").status_code == 200
    assert served.readiness()[0] == 200
