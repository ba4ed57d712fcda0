"""Keys and the key ring: what is stored, who can read it, and that a secret never shows."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import stat
import traceback
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from watermark.codebook.keys import IssuerKey, KeyRing, draw_key
from watermark.errors import CountersignError, InvalidInput, KeyRingError, UnknownIssuer


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "home" / "keys")


@pytest.mark.fresh_secrets
def test_create_and_load(ring: KeyRing) -> None:
    key = ring.create("demo", payload_bits=8)
    assert ring.load("demo") == key == KeyRing(ring.folder).load("demo")
    assert (key.name, key.payload_bits, len(key.secret)) == ("demo", 8, 32)
    age = datetime.now().astimezone() - datetime.fromisoformat(key.created)
    assert timedelta(seconds=-2) < age < timedelta(minutes=1)
    assert ring.create("other").secret != key.secret
    assert ring.names() == ["demo", "other"] and [k.name for k in ring.all()] == ["demo", "other"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_only_the_owner_can_read(ring: KeyRing) -> None:
    before = os.umask(0)  # the mode must not depend on it
    try:
        ring.create("demo")
    finally:
        os.umask(before)
    assert stat.S_IMODE(ring.path("demo").stat().st_mode) == 0o600
    assert stat.S_IMODE(ring.folder.stat().st_mode) == 0o700


def test_no_temporary_files_stay(ring: KeyRing) -> None:
    ring.create("demo")
    with pytest.raises(KeyRingError):
        ring.create("demo")
    assert [file.name for file in ring.folder.iterdir()] == ["demo.json"]


def test_an_existing_key_is_never_replaced(ring: KeyRing) -> None:
    key = ring.create("demo")
    with pytest.raises(KeyRingError, match="exists already"):
        ring.create("demo", payload_bits=4)
    assert ring.load("demo") == key


def _create(folder: Path, barrier: object, results: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    try:
        KeyRing(folder).create("demo")
        results.put("created")  # type: ignore[attr-defined]
    except KeyRingError:
        results.put("refused")  # type: ignore[attr-defined]


def test_of_many_processes_one_creates(ring: KeyRing) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.Queue()
    processes = [context.Process(target=_create, args=(ring.folder, barrier, results)) for _ in range(6)]
    for process in processes:
        process.start()
    outcomes = sorted(results.get(timeout=30) for _ in processes)
    for process in processes:
        process.join()
    assert outcomes == ["created"] + ["refused"] * 5
    assert ring.load("demo").name == "demo"


def test_a_file_system_without_links(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    key = ring.create("demo")
    assert ring.load("demo") == key
    assert stat.S_IMODE(ring.path("demo").stat().st_mode) == 0o600
    with pytest.raises(KeyRingError, match="exists already"):
        ring.create("demo")


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", ".hidden", "-x", "a b", "ä", "x" * 64, "demo\n", "a\0b", "..", None, 3])
def test_names_that_could_leave_the_folder_or_confuse_are_refused(ring: KeyRing, name: str) -> None:
    for call in (ring.create, ring.load, ring.path, lambda n: IssuerKey(n, bytes(32))):
        with pytest.raises(InvalidInput, match="no issuer name"):
            call(name)
    assert not ring.folder.exists()


@pytest.mark.parametrize("name", ["a", "0", "demo.2026", "x" * 63, "a-b_c.json"])
def test_names_that_are_fine(ring: KeyRing, name: str) -> None:
    ring.create(name)
    assert ring.names() == [name] and ring.load(name).name == name


@pytest.mark.parametrize("bits", [-1, 65, 1.0, True, "4"])
def test_payload_bits_out_of_range(ring: KeyRing, bits: int) -> None:
    with pytest.raises(InvalidInput, match="payload_bits"):
        ring.create("demo", bits)


def test_secrets_have_one_size() -> None:
    for secret in (b"", bytes(31), bytes(33), "x" * 32):
        with pytest.raises(InvalidInput, match="32 bytes"):
            IssuerKey("demo", secret)  # type: ignore[arg-type]


def test_unknown_issuer_and_empty_ring(ring: KeyRing) -> None:
    assert ring.names() == [] and ring.all() == []
    with pytest.raises(UnknownIssuer, match="'demo'"):
        ring.load("demo")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_open_to_others_is_refused(ring: KeyRing, mode: int) -> None:
    ring.create("demo")
    ring.path("demo").chmod(mode)
    with pytest.raises(KeyRingError, match=f"mode {mode:04o}.*chmod 600"):
        ring.load("demo")
    ring.path("demo").chmod(0o600)
    assert ring.load("demo").name == "demo"


def damage(record: dict) -> list[tuple[str, bytes]]:
    def changed(**values: object) -> bytes:
        return json.dumps({**record, **values}).encode()

    text = json.dumps(record)
    return [
        ("empty", b""),
        ("cut", text[: len(text) // 2].encode()),
        ("cut in the secret", text[: text.index(record["secret"]) + 20].encode()),
        ("not UTF-8", b"\xff" + text.encode()),
        ("no object", b"[]"),
        ("deep", b"[" * 60_000),
        ("secret short", changed(secret=record["secret"][:-2])),
        ("secret no hex", changed(secret="zz" + record["secret"][2:])),
        ("secret missing", json.dumps({k: v for k, v in record.items() if k != "secret"}).encode()),
        ("payload bits", changed(payload_bits=99)),
        ("payload bits type", changed(payload_bits="1")),
        ("name", changed(name="../x")),
        ("created", changed(created=None)),
        ("version", changed(format_version=2)),
        ("too long", changed(created="x" * 70_000)),
    ]


DAMAGES = [name for name, _ in damage({"format_version": 1, "name": "demo", "secret": "00" * 32, "payload_bits": 0, "created": ""})]


@pytest.mark.parametrize("which", DAMAGES)
def test_a_damaged_file_is_named_and_not_quoted(ring: KeyRing, which: str) -> None:
    secret = ring.create("demo").secret.hex()
    path = ring.path("demo")
    path.write_bytes(dict(damage(json.loads(path.read_text())))[which])
    with pytest.raises(KeyRingError, match="damaged") as caught:
        ring.load("demo")
    assert str(path) in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert secret[:16] not in shown and secret[-16:] not in shown
    assert caught.value.__cause__ is None and caught.value.__context__ is None  # a parser error would carry the document
    with pytest.raises(KeyRingError):
        ring.all()  # one bad key must not silently drop out of a verification


def test_a_renamed_file_is_refused(ring: KeyRing) -> None:
    ring.create("demo")
    ring.path("demo").rename(ring.path("new"))
    with pytest.raises(KeyRingError, match="another issuer"):
        ring.load("new")


def test_what_is_no_key_file(ring: KeyRing) -> None:
    ring.create("demo")
    (ring.folder / "README.md").write_text("x")
    (ring.folder / "Not A Key.json").write_text("x")
    (ring.folder / ".demo.json.0123").write_text("x")
    assert ring.names() == ["demo"]
    (ring.folder / "folder.json").mkdir()
    with pytest.raises(KeyRingError, match=r"folder\.json"):
        ring.load("folder")


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ring = KeyRing(tmp_path / "file" / "keys")
    for call in (lambda: ring.create("demo"), lambda: ring.load("demo"), ring.names):
        with pytest.raises(KeyRingError, match="Not a directory"):
            call()


def test_the_secret_never_shows(ring: KeyRing) -> None:
    key = ring.create("demo")
    shown = [repr(key), str(key), f"{key}", repr([key]), repr(ring), repr({"key": key})]
    for call in (lambda: ring.create("demo"), lambda: IssuerKey("demo", key.secret, 99), lambda: IssuerKey("demo", key.secret + b"x")):
        with pytest.raises(CountersignError) as caught:
            call()
        shown.append(str(caught.value) + repr(caught.value))
    for text in shown:
        assert key.secret.hex() not in text and repr(key.secret)[2:-1] not in text


@pytest.mark.parametrize("version", [0, 10_000, -1, True, "1", 1.0])
def test_versions_that_cannot_be(version: object) -> None:
    with pytest.raises(InvalidInput, match=r"version of key 'demo' must be 1 … 9999"):
        IssuerKey("demo", bytes(32), version=version)  # type: ignore[arg-type]


def test_a_stored_key_is_version_one(ring: KeyRing) -> None:
    assert ring.create("demo").version == ring.load("demo").version == 1
    assert draw_key("demo", version=7).version == 7


def test_a_key_is_a_value(ring: KeyRing) -> None:
    key = ring.create("demo")
    assert pickle.loads(pickle.dumps(key)) == key and len({key, ring.load("demo")}) == 1
    with pytest.raises(AttributeError):
        key.name = "other"  # type: ignore[misc]
