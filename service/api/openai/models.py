"""`GET /v1/models`: the one model that is served."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends

from service.api.common import RuntimeDep
from service.api.openai.errors import openai_responses
from service.api.openai.orders import unknown_model
from service.protection.authentication import Actor, requires
from service.runtime import Runtime
from service.schemas.openai import OpenAIModel, OpenAIModelList

router = APIRouter(tags=["openai"])
ActorDep = Annotated[Actor, Depends(requires("generate", "verify"))]


@router.get(
    "/v1/models",
    operation_id="openai_models",
    summary="The model served, as OpenAI's API lists it",
    responses=openai_responses(401, 403, 503),
)
async def models(runtime: RuntimeDep, _actor: ActorDep) -> OpenAIModelList:
    return OpenAIModelList(data=[_model(runtime)])


@router.get(
    "/v1/models/{model:path}",  # hub ids have a slash in them
    operation_id="openai_model",
    summary="One model, as OpenAI's API describes it",
    responses=openai_responses(401, 403, 404, 503),
)
async def model(model: str, runtime: RuntimeDep, _actor: ActorDep) -> OpenAIModel:
    served = _model(runtime)
    if model != served.id:
        raise unknown_model(model, served.id)
    return served


def _model(runtime: Runtime) -> OpenAIModel:
    """Raises Unavailable."""
    return OpenAIModel(id=runtime.require_model().model, created=int(time.time()))
