from __future__ import annotations

from pathlib import Path

from tests.service.harness import Served, places, problem, serving, small_settings
from watermark.calibration.key_check import KeyCheck
from watermark.codebook.keys import IssuerKey
from watermark.errors import CheckpointError


def test_an_issuer_from_its_making_to_its_end(served: Served) -> None:
    answer = served.client.post("/issuers", json={"name": "acme", "payload_bits": 12})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["name"], made["payload_bits"], made["key_version"], made["retired_at"]) == ("acme", 12, 1, None)
    rotated = served.client.post("/issuers/acme/rotate", json={"payload_bits": 4}).json()
    assert (rotated["payload_bits"], rotated["key_version"]) == (4, 2)
    assert [(key["version"], key["payload_bits"], key["retired_at"] is None) for key in rotated["keys"]] == [(1, 12, False), (2, 4, True)]
    assert served.client.post("/issuers/acme/rotate").json()["payload_bits"] == 4  # no body: as before
    retired = served.client.post("/issuers/acme/retire").json()
    assert retired["retired_at"] and served.client.get("/issuers/acme").json() == retired
    assert retired in served.client.get("/issuers").json()["issuers"]
    problem(served.client.post("/issuers/acme/rotate", json={}), 409, "issuer_retired")
    problem(served.client.post("/issuers", json={"name": "acme"}), 409, "issuer_exists")


def test_what_cannot_be_made_is_refused_by_its_place(served: Served) -> None:
    for body, pointer in (
        ({}, "/name"),
        ({"name": "No"}, "/name"),
        ({"name": "a", "payload_bits": 65}, "/payload_bits"),
        ({"name": "a", "secret": "00"}, "/secret"),
    ):
        assert places(problem(served.client.post("/issuers", json=body), 422, "invalid_input")) == {pointer}
    for path in ("/issuers/nobody", "/issuers/nobody/rotate", "/issuers/nobody/retire"):
        answer = served.client.post(path) if path.count("/") > 2 else served.client.get(path)
        problem(answer, 404, "unknown_issuer")


def test_every_change_is_in_the_audit_log_and_nothing_else(served: Served) -> None:
    before = served.client.get("/audit?limit=1").json()["records"]
    served.client.post("/issuers", json={"name": "noted"}, headers={"X-Request-ID": "step-1"})
    served.client.post("/issuers/noted/rotate", headers={"X-Request-ID": "step-2"})
    served.client.post("/issuers/noted/retire", headers={"X-Request-ID": "step-3"})
    served.client.post("/issuers", json={"name": "noted"})
    served.client.get("/issuers/noted")
    records = served.client.get("/audit?limit=3").json()["records"]
    assert [(r["action"], r["subject"], r["actor"], r["request_id"]) for r in records] == [
        ("issuer.retire", "noted", "local", "step-3"),
        ("issuer.rotate", "noted", "local", "step-2"),
        ("issuer.create", "noted", "local", "step-1"),
    ]
    assert records[1]["detail"] == {"key_version": 2, "payload_bits": 0}
    older = served.client.get(f"/audit?limit=1&before={records[-1]['id']}").json()["records"]
    assert older == before


def test_only_sound_keys_are_taken(tmp_path: Path) -> None:
    drawn: list[IssuerKey] = []

    class Picky(KeyCheck):
        def sound(self, key: IssuerKey) -> bool:
            drawn.append(key)
            return len(drawn) == 3

    with serving(small_settings(tmp_path), read_key_check=lambda: Picky(4, None)) as served:
        assert served.client.post("/issuers", json={"name": "picky"}).status_code == 201
        assert len(drawn) == 3
        (key,) = served.storage.issuers.verification_keys(["picky"])
        assert key.secret == drawn[2].secret


def test_without_a_checkpoint_the_operator_is_told_and_the_caller_gets_an_id(tmp_path: Path) -> None:
    def damaged() -> None:
        raise CheckpointError("damaged: /home/somebody/private")

    with serving(small_settings(tmp_path), read_key_check=damaged) as served:
        body = problem(served.client.post("/issuers", json={"name": "late"}), 500, "checkpoint")
        assert body["error_id"] and "somebody" not in str(body)
        problem(served.client.get("/issuers/late"), 404, "unknown_issuer")
