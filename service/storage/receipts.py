"""Receipts that were handed out, found by id, by content, and by fingerprint for edited copies. The texts are not kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import or_, select

from service.receipts.document import SignedReceipt, content_sha256
from service.storage.database import Database
from service.storage.fingerprint import BANDS, NEAR, Fingerprinter, similarity
from service.storage.models import ReceiptRow
from service.storage.purging import purge

MOST_CANDIDATES = 10_000
"""Receipts, the newest, whose fingerprints are compared with a text's: a bound on the work for a text that was issued very often."""


@dataclass(frozen=True)
class ReceiptMatch:
    document: SignedReceipt
    exact: bool
    """The text is the one of the receipt, to the last character."""
    similarity: float
    """Estimated Jaccard similarity of the two texts' three-word shingles; 1 for an exact match."""


class ReceiptStore:
    """Safe in several threads. All methods raise StorageUnavailable."""

    def __init__(self, database: Database, fingerprinter: Fingerprinter) -> None:
        self._database, self._fingerprinter = database, fingerprinter

    def add(self, issued: Iterable[tuple[SignedReceipt, str]], request_id: str | None = None) -> None:
        """Keep receipts with the fingerprints of their texts, all or none."""
        rows = [self._row(document, text, request_id) for document, text in issued]
        with self._database.session() as session:
            session.add_all(rows)

    def get(self, receipt_id: str) -> SignedReceipt | None:
        with self._database.reading() as session:
            row = session.get(ReceiptRow, receipt_id)
        return row and SignedReceipt.model_validate(row.document)

    def find(self, text: str, limit: int = 10) -> list[ReceiptMatch]:
        """Receipts of this text, the newest first, then those of texts that differ from it by edits, the most alike first."""
        newest = ReceiptRow.created.desc(), ReceiptRow.id
        digest, fingerprint = content_sha256(text), self._fingerprinter.of(text)  # before a connection is held
        with self._database.reading() as session:
            query = select(ReceiptRow.document).where(ReceiptRow.content_sha256 == digest).order_by(*newest).limit(limit)
            exact = [ReceiptMatch(SignedReceipt.model_validate(document), True, 1.0) for document in session.scalars(query)]
            if fingerprint is None or len(exact) >= limit:
                return exact
            bands = or_(*(getattr(ReceiptRow, f"band_{i}") == band for i, band in enumerate(fingerprint.bands)))
            others = ReceiptRow.content_sha256 != digest
            candidates = select(ReceiptRow.id, ReceiptRow.fingerprint).where(bands, others).order_by(*newest).limit(MOST_CANDIDATES)
            alike = [(similarity(fingerprint.sketch, sketch), id) for id, sketch in session.execute(candidates) if sketch]
            near = sorted((pair for pair in alike if pair[0] >= NEAR), key=lambda pair: -pair[0])[: limit - len(exact)]
            found = [(session.get_one(ReceiptRow, id).document, score) for score, id in near]
        return exact + [ReceiptMatch(SignedReceipt.model_validate(document), False, score) for document, score in found]

    def purge(self, older_than: datetime) -> int:
        """Delete receipts issued before; returns how many those were."""
        return purge(self._database, ReceiptRow, ReceiptRow.created < older_than)

    def _row(self, document: SignedReceipt, text: str, request_id: str | None) -> ReceiptRow:
        receipt, fingerprint = document.receipt, self._fingerprinter.of(text)
        bands = fingerprint.bands if fingerprint else (None,) * BANDS
        return ReceiptRow(
            id=receipt.id,
            created=datetime.strptime(receipt.issued_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC),
            issuer=receipt.issuer,
            key_version=receipt.key_version,
            payload_present=receipt.payload is not None,
            content_sha256=receipt.content_sha256,
            content_length=receipt.content_length,
            model=receipt.model,
            checkpoint=receipt.checkpoint,
            tokens=receipt.tokens,
            request_id=request_id,
            document=document.model_dump(),
            fingerprint=fingerprint and fingerprint.sketch,
            **{f"band_{i}": band for i, band in enumerate(bands)},
        )
