"""The OpenAPI document, served at /openapi.json and committed. Regenerate the file: `python -m service.openapi > docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from service.engine.protocol import Engine
from service.schemas.generate import Piece, StreamedResult, StreamEnd
from service.schemas.openai import ChatCompletionChunk
from service.schemas.problem import Problem

DESCRIPTION = """\
Marks text while a frozen language model writes it, and later says who issued a text, from the text alone.

Errors are RFC 9457 problem+json with a stable `code`. 429 and 503 answers carry `Retry-After`. Beyond loopback every request needs an \
API key, `Authorization: Bearer KEY`, with the scope of what it asks for; `admin` includes all. Without a key anybody may verify one text \
at a time, where the operator allows it."""

TAGS = [
    {"name": "watermark", "description": "Marked text, and whose mark a text carries."},
    {"name": "openai", "description": "For programs written for OpenAI's API; their own errors, and ours under the key `countersign`."},
    {"name": "issuers", "description": "Who can mark texts here. Secrets never leave the server."},
    {"name": "receipts", "description": "Signed statements about texts that were handed out, verifiable offline."},
    {"name": "operation", "description": "For whoever runs the service."},
    {"name": "health", "description": "Probes."},
]
BESIDE_ROUTES: tuple[type[BaseModel], ...] = (Problem, Piece, StreamedResult, StreamEnd, ChatCompletionChunk)
"""What answers hold that FastAPI does not see: errors, and the data of events."""


def install(app: FastAPI) -> None:
    """Serve a document that knows the shape of errors: FastAPI would describe validation errors that are never sent."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                license_info=app.license_info,
                tags=TAGS,
                routes=app.routes,
            )
            schemas = document["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            for model in BESIDE_ROUTES:
                described = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
                schemas.update(described.pop("$defs", {}))
                schemas[model.__name__] = described
            document["components"]["schemas"] = dict(sorted(schemas.items()))
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def document() -> str:
    """The committed text. It depends on no setting and needs no model."""
    from service.app import create_app
    from service.settings import Settings

    app = create_app(Settings.model_construct(), engine=cast(Engine, None))  # it is never started
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
