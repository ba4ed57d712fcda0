from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from service.openapi import document
from tests.service.harness import Served
from watermark.statistics.verdict import PayloadBit, Segment, TokenEvidence, Verdict

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_committed_document_is_the_served_one(served: Served) -> None:
    advice = "docs/openapi.json is out of date; regenerate it: python -m service.openapi > docs/openapi.json"
    assert COMMITTED.read_text(encoding="utf-8") == document(), advice
    assert served.client.get("/openapi.json").json() == json.loads(document())


def test_operations_have_stable_ids_and_describe_their_errors() -> None:
    paths = json.loads(document())["paths"]
    operations = {(path, method): operation for path, methods in paths.items() for method, operation in methods.items()}
    native = {key: operation for key, operation in operations.items() if not key[0].startswith("/v1/")}
    assert {key: operation["operationId"] for key, operation in native.items()} == {
        ("/generate", "post"): "generate",
        ("/verify", "post"): "verify",
        ("/issuers", "get"): "list_issuers",
        ("/issuers", "post"): "create_issuer",
        ("/issuers/{name}", "get"): "get_issuer",
        ("/issuers/{name}/rotate", "post"): "rotate_issuer",
        ("/issuers/{name}/retire", "post"): "retire_issuer",
        ("/receipts/{receipt_id}", "get"): "get_receipt",
        ("/signing-keys", "get"): "list_signing_keys",
        ("/metrics", "get"): "metrics",
        ("/audit", "get"): "list_audit_records",
        ("/livez", "get"): "livez",
        ("/readyz", "get"): "readyz",
    }
    for (path, _), operation in native.items():
        assert operation["tags"] and operation["summary"] and operation["description"], path
        if path in ("/livez", "/readyz"):
            continue
        problems = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
        assert {"503", "4XX", "5XX"} <= set(problems), path
        for answer in problems.values():
            assert list(answer["content"]) == ["application/problem+json"], path
        if "security" in operation:
            assert "401" in problems, path
            assert "403" in problems, path
        for status in {"429", "503"} & set(problems):
            assert "Retry-After" in problems[status]["headers"]
    assert set(operations[("/generate", "post")]["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}


def test_it_says_who_needs_an_api_key() -> None:
    described = json.loads(document())
    assert described["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    needs = {path: [operation.get("security") for operation in methods.values()] for path, methods in described["paths"].items()}
    key = [{"ApiKey": []}]
    for path, security in needs.items():
        if path in ("/livez", "/readyz", "/signing-keys"):
            assert security == [None], path
        elif path == "/verify":
            assert security == [[*key, {}]]  # with a key, or as the public
        else:
            assert all(each == key for each in security), path


def test_every_reference_leads_somewhere_and_every_request_field_is_described() -> None:
    text = document()
    schemas = json.loads(text)["components"]["schemas"]
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in schemas
    assert "HTTPValidationError" not in schemas  # FastAPI's own shape of errors, which is never sent
    assert {"Problem", "Piece", "StreamedResult", "StreamEnd"} <= set(schemas)
    for name in ("GenerateRequest", "VerifyRequest", "CreateIssuerRequest", "RotateIssuerRequest"):
        assert schemas[name]["additionalProperties"] is False
        assert "examples" in schemas[name] or "Issuer" in name
        for field, schema in schemas[name]["properties"].items():
            assert schema.get("description") or field == "name", f"{name}.{field}"
    plain = {"verdict", "issuer"}
    for field, schema in schemas["Verdict"]["properties"].items():
        assert field in plain or len(schema.get("description", "")) > 10, f"Verdict.{field}"


def test_a_verdict_has_every_field_of_the_librarys() -> None:
    schemas = json.loads(document())["components"]["schemas"]
    for ours, theirs in ((Verdict, "Verdict"), (Segment, "Segment"), (PayloadBit, "PayloadBit"), (TokenEvidence, "TokenEvidence")):
        fields = [field.name for field in dataclasses.fields(ours)]
        added = {"receipts"} if theirs == "Verdict" else set()  # found in the storage, of which the library knows nothing
        assert [name for name in schemas[theirs]["properties"] if name not in added] == fields
        assert sorted(schemas[theirs]["required"]) == sorted(fields)


def test_the_examples_are_accepted(served: Served) -> None:
    schemas = json.loads(document())["components"]["schemas"]
    for name, path in (("GenerateRequest", "/generate"), ("VerifyRequest", "/verify")):
        for example in schemas[name]["examples"]:
            answer = served.client.post(path, json=example)
            assert answer.status_code == 200, (example, answer.text)
