"""The routes. Each one reads like its sentence in the API's description; what they share is beside them."""

from __future__ import annotations

from fastapi import APIRouter


def routers() -> list[APIRouter]:
    """All of them, in the order of the OpenAPI document."""
    from service.api import generate, health, issuers, operation, receipts, verify
    from service.api.openai import chat, completions, models

    return [module.router for module in (generate, verify, completions, chat, models, issuers, receipts, operation, health)]
