"""The database is full or gone while the service runs: clients are told so and when to come again, and no restart is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.harness import Served, problem, serving, small_settings, until
from tests.service.storage.postgres import PostgresServer, running
from tests.service.storage.test_outages import full_disk

ADMIN_KEY = "storage-" * 5
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """One that may be stopped."""
    with running() as server:
        yield server


def test_a_full_disk_stops_what_must_be_written_and_nothing_else(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path)) as served:
        kept = served.generate().json()["results"][0]
        with full_disk(1):
            told = problem(served.generate(), 503, "storage_unavailable")
            assert "Hello" not in str(told) and str(tmp_path) not in str(told)
            problem(served.client.post("/issuers", json={"name": "late"}), 503, "storage_unavailable")
            with served.client.stream("POST", "/generate", json={"prompt": "Hello", "stream": True}) as stream:
                assert '"code":"storage_unavailable"' in stream.read().decode()
            assert served.verify(kept["text"]).json()["results"][0]["receipts"] == [kept["receipt_id"]]
            assert served.generate(receipt=False).status_code == 200
            assert served.client.get("/livez").status_code == 200
        assert served.generate().status_code == 200
        assert served.client.get(f"/receipts/{kept['receipt_id']}").status_code == 200
        assert {issuer["name"] for issuer in served.client.get("/issuers").json()["issuers"]} == {"default", "newsroom"}
        assert served.unfinished == 0


def test_the_database_goes_away_and_comes_back(tmp_path: Path, postgres: PostgresServer) -> None:
    settings = small_settings(tmp_path, database_url=postgres.new_database(), authentication=True, admin_key=ADMIN_KEY)
    with serving(settings) as served:
        client_key, unused = served.api_key("client", "generate"), served.api_key("unused", "generate")
        kept = served.client.post("/generate", json={"prompt": "Hello"}, headers=client_key).json()["results"][0]["receipt_id"]
        postgres.stop()
        began = time.monotonic()
        until(lambda: served.readiness()[0] == 503, "readiness to drop", 5)
        assert served.readiness()[1]["status"] == "storage_down"
        assert served.client.get("/livez").status_code == 200
        problem(served.client.post("/generate", json={"prompt": "Hello"}, headers=ADMIN), 503, "storage_unavailable")
        problem(served.client.post("/verify", json={"text": "a"}, headers=ADMIN), 503, "storage_unavailable")
        problem(served.client.get(f"/receipts/{kept}", headers=ADMIN), 503, "storage_unavailable")
        # Never "this key is unknown": its owner would throw it away.
        problem(served.client.post("/generate", json={"prompt": "Hello"}, headers=unused), 503, "storage_unavailable")
        assert time.monotonic() - began < 15  # nobody is left hanging
        postgres.start()
        until(lambda: served.readiness()[0] == 200, "readiness to come back", 5)
        assert served.client.post("/generate", json={"prompt": "Hello"}, headers=client_key).status_code == 200
        assert served.client.get(f"/receipts/{kept}", headers=ADMIN).status_code == 200
        assert served.unfinished == 0


def test_openai_clients_are_told_in_their_own_way(tmp_path: Path, served: Served) -> None:
    with full_disk(1):
        answer = served.client.post("/v1/completions", json={"model": "fake-model", "prompt": "Hello"})
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["error"]["code"] == "storage_unavailable"
