from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from service.openapi import document
from tests.service.harness import Served
from watermark.statistics.verdict import PayloadBit, Segment, TokenEvidence, Verdict

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_committed_document_is_the_served_one(served: Served) -> None:
    advice = "docs/openapi.json is out of date; regenerate it: python -m service.openapi > docs/openapi.json"
    assert COMMITTED.read_text(encoding="utf-8") == document(), advice
    assert served.client.get("/openapi.json").json() == json.loads(document())


def test_operations_have_stable_ids_and_describe_their_errors() -> None:
    paths = json.loads(document())["paths"]
    operations = {(path, method): operation for path, methods in paths.items() for method, operation in methods.items()}
    assert {key: operation["operationId"] for key, operation in operations.items()} == {
        ("/generate", "post"): "generate",
        ("/verify", "post"): "verify",
        ("/issuers", "get"): "list_issuers",
        ("/livez", "get"): "livez",
        ("/readyz", "get"): "readyz",
    }
    for path in ("/generate", "/verify", "/issuers"):
        (operation,) = paths[path].values()
        for status in ("4XX", "422", "503", "5XX"):
            assert list(operation["responses"][status]["content"]) == ["application/problem+json"]


def test_every_reference_leads_somewhere_and_every_request_field_is_described() -> None:
    text = document()
    schemas = json.loads(text)["components"]["schemas"]
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in schemas
    assert "HTTPValidationError" not in schemas  # FastAPI's own shape of errors, which is never sent
    for name in ("GenerateRequest", "VerifyRequest"):
        assert schemas[name]["additionalProperties"] is False and schemas[name]["examples"]
        for field, schema in schemas[name]["properties"].items():
            assert schema.get("description"), f"{name}.{field}"
    plain = {"verdict", "issuer"}
    for field, schema in schemas["Verdict"]["properties"].items():
        assert field in plain or len(schema.get("description", "")) > 10, f"Verdict.{field}"


def test_a_verdict_has_every_field_of_the_librarys() -> None:
    schemas = json.loads(document())["components"]["schemas"]
    for ours, theirs in ((Verdict, "Verdict"), (Segment, "Segment"), (PayloadBit, "PayloadBit"), (TokenEvidence, "TokenEvidence")):
        assert list(schemas[theirs]["properties"]) == [field.name for field in dataclasses.fields(ours)]
        assert sorted(schemas[theirs]["required"]) == sorted(schemas[theirs]["properties"])


def test_the_examples_are_accepted(served: Served) -> None:
    schemas = json.loads(document())["components"]["schemas"]
    for name, path in (("GenerateRequest", "/generate"), ("VerifyRequest", "/verify")):
        for example in schemas[name]["examples"]:
            answer = served.client.post(path, json=example)
            assert answer.status_code == 200, (example, answer.text)
