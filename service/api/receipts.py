"""Signed receipts: kept when a marked text is handed out, looked up by id, verified offline with the public keys."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Depends, Path

from service.api.common import RuntimeDep, responses
from service.engine.protocol import ModelCard
from service.errors import Problem
from service.protection.authentication import requires
from service.receipts.document import SignedReceipt
from service.runtime import Runtime
from service.schemas.receipts import SigningKey, SigningKeysAnswer
from service.storage.open import Storage
from watermark.codebook.keys import IssuerKey
from watermark.sampling.requests import GenerationResult

router = APIRouter(tags=["receipts"])

FRESH_SECONDS = 5.0
"""How long public keys are given out as they were read: they are for anybody, and should cost the database nothing."""
_published: WeakKeyDictionary[Runtime, tuple[float, asyncio.Task[SigningKeysAnswer]]] = WeakKeyDictionary()
"""Of each service in this process: when its keys were last read, and what was read or still is."""

ReceiptId = Annotated[str, Path(max_length=64, pattern="^[A-Za-z0-9_-]+$", description="From `receipt_id` of a generated text.")]


async def keep_receipt(runtime: Runtime, model: ModelCard, result: GenerationResult, key: IssuerKey, request_id: str) -> str:
    """Sign a receipt for a marked text and store it; its id. Raises StorageUnavailable."""
    storage, marking = runtime.require_storage(), result.marking

    def sign_and_store() -> str:
        document = storage.signer.sign(
            result.text,
            model=model.model,
            checkpoint=model.checkpoint,
            scheme=model.scheme,
            issuer=key.name,
            key_version=key.version,
            payload=marking.payload,
            watermark=marking.watermark,
            p_value=marking.p_value,
            tokens=marking.tokens,
            detector_url=runtime.settings.receipt_url,
        )
        storage.receipts.add([(document, result.text)], request_id)
        return document.receipt.id

    return await asyncio.to_thread(sign_and_store)


@router.get(
    "/receipts/{receipt_id}",
    operation_id="get_receipt",
    summary="A signed receipt",
    responses=responses(401, 403, 404, 422, 503),
    dependencies=[Depends(requires("generate", "verify"))],
)
async def get_receipt(receipt_id: ReceiptId, runtime: RuntimeDep) -> SignedReceipt:
    """What was stated about a text when it was handed out: a hash of it, issuer, model, time. Verify it with `GET /signing-keys`."""
    found = await asyncio.to_thread(runtime.require_storage().receipts.get, receipt_id)
    if found is None:
        raise Problem(404, "unknown_receipt", "There is no receipt of this id. It may have been deleted when its time was over.")
    return found


@router.get("/signing-keys", operation_id="list_signing_keys", summary="Public keys of receipts", responses=responses(503))
async def list_signing_keys(runtime: RuntimeDep) -> SigningKeysAnswer:
    """For anybody: with these, receipts are verified offline. The newest key comes first; retired ones sign nothing any more."""
    storage = runtime.require_storage()
    read, keys = _published.get(runtime, (0.0, None))
    if keys is None or time.monotonic() - read > FRESH_SECONDS or (keys.done() and (keys.cancelled() or keys.exception())):
        keys = asyncio.create_task(asyncio.to_thread(_public_keys, storage))
        _published[runtime] = time.monotonic(), keys
    return await asyncio.shield(keys)  # whoever leaves does not take it from the others


def _public_keys(storage: Storage) -> SigningKeysAnswer:
    return SigningKeysAnswer(keys=[SigningKey.model_validate(key) for key in storage.signer.public_keys()])
