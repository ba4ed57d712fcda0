"""Receipts for tests, as the service would issue them."""

from __future__ import annotations

import random
from typing import Any

from service.receipts.document import SignedReceipt
from service.receipts.signer import ReceiptSigner

WORDS = [f"word{i}" for i in range(3000)]


def prose(seed: int, words: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def issue(signer: ReceiptSigner, text: str, **changes: Any) -> SignedReceipt:
    about: dict[str, Any] = {
        "model": "gemma3-270m",
        "checkpoint": "gemma3-270m-tournament",
        "scheme": "countersign/tournament/2",
        "issuer": "acme",
        "key_version": 2,
        "payload": "2a",
        "watermark": True,
        "p_value": 3.2e-17,
        "tokens": 120,
        "detector_url": "https://marks.example/verify",
    }
    return signer.sign(text, **{**about, **changes})
