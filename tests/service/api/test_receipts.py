from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from service.receipts.verification import parse_public_key, verify_receipt
from service.runtime import purge
from service.settings import Settings
from tests.service.harness import Served, problem


def test_a_receipt_is_verified_offline_against_the_text(served: Served) -> None:
    written = served.generate(issuer="newsroom", payload="7", max_new_tokens=40).json()["results"][0]
    answer = served.client.get(f"/receipts/{written['receipt_id']}")
    assert answer.status_code == 200
    keys = {key["key_id"]: key for key in served.client.get("/signing-keys").json()["keys"]}
    published = keys[answer.json()["key_id"]]
    for form in (published["pem"], published["public_key"]):
        check = verify_receipt(answer.text, parse_public_key(form), written["text"])
        assert check.valid and check.content, check.reason
    assert not verify_receipt(answer.text, parse_public_key(published["pem"]), written["text"] + ".").valid
    receipt = answer.json()["receipt"]
    expected = {"issuer": "newsroom", "key_version": 1, "payload": "07", "model": "fake-model", "checkpoint": "fake-checkpoint"}
    assert {name: receipt[name] for name in expected} == expected
    assert receipt["detector_url"] == served.runtime.settings.receipt_url and receipt["watermark"] is True
    assert written["text"] not in answer.text
    receipt["issuer"] = "default"
    assert not verify_receipt(json.dumps({**answer.json(), "receipt": receipt}), parse_public_key(published["pem"])).valid


def test_no_receipt_where_none_is_asked_for_or_nothing_is_marked(served: Served) -> None:
    for body in ({"receipt": False}, {"strength": 0}):
        result = served.generate(max_new_tokens=40, **body).json()["results"][0]
        assert result["receipt_id"] is None
        assert served.storage.receipts.find(result["text"]) == []


def test_public_keys_cost_the_database_little(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.receipts.FRESH_SECONDS", -1.0)
    served.client.get("/signing-keys")
    monkeypatch.setattr("service.api.receipts.FRESH_SECONDS", 60.0)
    before = served.client.get("/signing-keys").json()["keys"]
    reads: list[None] = []
    signer = served.runtime.require_storage().signer
    public_keys = signer.public_keys
    monkeypatch.setattr(signer, "public_keys", lambda: (reads.append(None), public_keys())[1])
    assert all(served.client.get("/signing-keys").json()["keys"] == before for _ in range(20)) and not reads
    served.storage.signer.rotate()
    monkeypatch.setattr("service.api.receipts.FRESH_SECONDS", -1.0)
    assert len(served.client.get("/signing-keys").json()["keys"]) == len(before) + 1 and len(reads) == 1


def test_unknown_receipts(served: Served) -> None:
    problem(served.client.get("/receipts/rcp_AAAAAAAAAAAAAAAAAAAAAA"), 404, "unknown_receipt")


def test_purging_keeps_what_the_settings_say(served: Served) -> None:
    result = served.generate(max_new_tokens=40).json()["results"][0]
    served.client.post("/issuers", json={"name": "purged"})
    path = f"/receipts/{result['receipt_id']}"
    purge(served.storage, served.runtime.settings)  # receipts for ever, audit for 400 days
    assert served.client.get(path).status_code == 200
    assert served.client.get("/audit").json()["records"]
    served.storage.receipts.purge(datetime.now(UTC) - timedelta(days=1))
    assert served.client.get(path).status_code == 200
    tomorrow = Settings.model_construct(audit_days=-1, receipt_days=-1)
    purge(served.storage, tomorrow)
    problem(served.client.get(path), 404, "unknown_receipt")
    assert served.client.get("/audit").json() == {"records": []}
