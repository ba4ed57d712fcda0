"""Run by `test_durability`: writes without end, and says on stdout what was acknowledged. Arguments: URL, round."""

from __future__ import annotations

import sys
from itertools import count

from service.storage.api_keys import ApiKeyStore
from service.storage.database import Database
from service.storage.encryption import MasterKey
from service.storage.fingerprint import Fingerprinter
from service.storage.issuers import IssuerStore
from service.storage.receipts import ReceiptStore
from service.storage.vault import data_key
from tests.service.storage.audited import note
from tests.service.storage.issued import issue, prose

MASTER = b"durable".ljust(32, b".")


def write(url: str, round_: str) -> None:
    from service.receipts.signer import ReceiptSigner

    database, master = Database(url), MasterKey(MASTER)
    database.upgrade()
    fingerprinter = Fingerprinter(data_key(database, master))
    issuers, keys = IssuerStore(database, master), ApiKeyStore(database)
    receipts, signer = ReceiptStore(database, fingerprinter), ReceiptSigner(database, master)
    for number in count():
        name = f"n{round_}-{number}"
        issuers.create(name)
        acknowledge("issuer", name, issuers.marking_key(name).secret.hex())
        issuers.rotate(name)
        acknowledge("rotated", name, issuers.marking_key(name).secret.hex())
        acknowledge("api_key", name, keys.create(name, ["verify"])[1])
        signed = issue(signer, prose(number))
        receipts.add([(signed, prose(number))])
        acknowledge("receipt", signed.receipt.id, signed.signature)
        note(database, "wrote", name)
        acknowledge("audit", name, "")


def acknowledge(kind: str, name: str, value: str) -> None:
    sys.stdout.write(f"{kind} {name} {value}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2])
