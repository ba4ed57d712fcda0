"""Requests made from the OpenAPI document, valid and not, to every operation: no server error, and answers that are as documented."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import schemathesis
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import CHECKS, CheckFunction
from schemathesis.config import SchemathesisConfig

from service.openapi import document
from tests.service.harness import Served, serving, small_settings

ADMIN_KEY = "fuzz-" * 8
EXAMPLES = 40
"""Of each operation, valid and invalid ones, beside those that cover every boundary of the schema."""
LEFT_OUT = (
    "positive_data_acceptance",  # an operator's limits are below the schema's, and issuers that nobody created are unknown
)

CONFIGURATION = SchemathesisConfig.from_dict(
    {
        "seed": 5,
        "cache": {"enabled": False},
        # Unknown query parameters are passed over, as everywhere on the web; unknown fields of a body are not.
        "generation": {"deterministic": True, "database": "none", "allow-extra-parameters": False},
    }
)
schema = schemathesis.openapi.from_dict(json.loads(document()), config=CONFIGURATION)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With authentication, so that requests without a key are part of the game."""
    often = {name: "1000000/minute" for name in ("public_rate", "generate_rate", "verify_rate")}
    settings = small_settings(Path(tmp_path_factory.mktemp("fuzz")), authentication=True, admin_key=ADMIN_KEY, **often)
    with serving(settings) as running:
        yield running


@schema.parametrize()
@hypothesis_settings(max_examples=EXAMPLES)
def test_every_operation_keeps_to_its_document(case: schemathesis.Case, guarded: Served) -> None:
    excluded = [cast(CheckFunction, CHECKS.get_one(name)) for name in LEFT_OUT]
    case.call_and_validate(
        base_url=str(guarded.client.base_url),
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        excluded_checks=excluded,
        timeout=20,
    )
