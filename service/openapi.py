"""The OpenAPI document, served at /openapi.json and committed. Regenerate the file: `python -m service.openapi > docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.schemas import Problem


def install(app: FastAPI) -> None:
    """Serve a document that knows the shape of errors: FastAPI would describe validation errors that are never sent."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, license_info=app.license_info, routes=app.routes
            )
            schemas = document["components"]["schemas"]
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(problem.pop("$defs"))
            schemas["Problem"] = problem
            document["components"]["schemas"] = dict(sorted(schemas.items()))
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def document() -> str:
    """The committed text. It depends on no setting and needs no model."""
    from service.app import create_app
    from service.settings import Settings

    return json.dumps(create_app(Settings.model_construct()).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
