"""Kinds of request that no well-behaved client sends, drawn from a seed. Each is bytes, and how to send them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

Ending = Literal["read", "half_close", "reset", "read_some_and_reset"]
PATHS = ("/generate", "/verify", "/v1/completions", "/v1/chat/completions", "/issuers", "/issuers/default/rotate")
BODIES = {
    "/generate": {"prompt": "Hello", "max_new_tokens": 20},
    "/verify": {"text": "Some text."},
    "/v1/completions": {"model": "fake-model", "prompt": "Hello", "max_tokens": 20},
    "/v1/chat/completions": {"model": "fake-model", "messages": [{"role": "user", "content": "Hello"}]},
    "/issuers": {"name": "Not A Name"},
    "/issuers/default/rotate": {"payload_bits": 65},
}
ODD_VALUES = (
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "\0",
    "\ud800",
    "🜏" * 50,
    "a" * 5000,
    [],
    [[]],
    [None],
    [1] * 300,
    ["x"] * 300,
    {},
    {"a": {}},
)


@dataclass(frozen=True)
class Hostile:
    kind: str
    parts: tuple[bytes, ...]
    """Sent one after the other, with a pause between them."""
    ending: Ending = "read"


def request(path: str, body: bytes, **headers: str) -> bytes:
    fields = {"Host": "127.0.0.1", "Content_Type": "application/json", "Content_Length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def proper(random: Random) -> bytes:
    path = random.choice(PATHS)
    return request(path, json.dumps(BODIES[path]).encode())


def bad_http(random: Random) -> Hostile:
    def mutilated() -> bytes:
        content = bytearray(proper(random))
        for _ in range(random.randint(1, 5)):
            content[random.randrange(80)] = random.randrange(256)
        return bytes(content)

    forms: tuple[Callable[[], bytes], ...] = (
        mutilated,
        lambda: random.randbytes(random.randint(1, 400)) + b"\r\n\r\n",
        lambda: b"GET / HTTP/9.9\r\n\r\n",
        lambda: b"POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        lambda: b"POST /verify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n{}",
        lambda: b"POST /verify HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
        lambda: b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nNo colon here\r\n\r\n",
        lambda: b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.randbytes(100),
        lambda: b"GET " + b"/a" * random.randint(1, 2000) + b"?%zz=%\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        lambda: b"XYZZY /generate HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    )
    return Hostile("bad_http", (random.choice(forms)(),), "half_close")


def bad_json(random: Random) -> Hostile:
    path = random.choice(PATHS)
    good = json.dumps(BODIES[path]).encode()
    forms = (
        good[: random.randrange(len(good))],
        b"[" * 20_000,
        b'{"text":' * 5_000,
        b'{"text": NaN}',
        b'{"text": "\xff\xfe"}',
        b"\xef\xbb\xbf" + good,
        good.decode().encode("utf-16"),
        b'{"max_new_tokens": ' + b"9" * 5_000 + b"}",
        b"null",
        b'"text"',
        random.randbytes(200),
    )
    return Hostile("bad_json", (request(path, random.choice(forms)),))


def wrong_types(random: Random) -> Hostile:
    path = random.choice(PATHS)
    body = dict(BODIES[path])
    body[random.choice([*body, "seed", "stop", "issuer", "payload", "stream", "no such field", "\ud800"])] = random.choice(ODD_VALUES)
    return Hostile("wrong_types", (request(path, json.dumps(body).encode()),))


def wrong_headers(random: Random) -> Hostile:
    forms: tuple[dict[str, str], ...] = (
        {"Content_Type": random.choice(["text/plain", "multipart/form-data", "application/json; charset=utf-7", ""])},
        {"Authorization": random.choice(["Bearer", "Bearer \xe9", "Basic Og==", "Bearer " + "k" * 5000])},
        {"X_Request_ID": "\xe9" * 100},
        {"Idempotency_Key": "k" * 300},
        {"Host": "127.0.0.1:99999"},
        {"Accept_Encoding": "gzip;q=x", "Range": "bytes=9-1"},
    )
    path = random.choice(PATHS)
    return Hostile("wrong_headers", (request(path, json.dumps(BODIES[path]).encode(), **random.choice(forms)),))


def too_large(random: Random) -> Hostile:
    if random.random() < 0.5:
        return Hostile("too_large", (request("/verify", b"{}", X_Filler="h" * random.choice([20_000, 70_000, 200_000])),))
    chunked = b"POST /verify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    return Hostile("too_large", (chunked + chunk * 6,))  # no last chunk: refused before the end


def half_closed(random: Random) -> Hostile:
    return Hostile("half_closed", (proper(random),), "half_close")


def reset_mid_body(random: Random) -> Hostile:
    content = proper(random)
    return Hostile("reset_mid_body", (content[: random.randrange(1, len(content))],), "reset")


def reset_before_the_answer(random: Random) -> Hostile:
    return Hostile("reset_before_the_answer", (proper(random),), "reset")


def reset_mid_stream(random: Random) -> Hostile:
    path, tokens = random.choice([("/generate", "max_new_tokens"), ("/v1/completions", "max_tokens")])
    body = {**BODIES[path], "stream": True, tokens: 400}
    return Hostile("reset_mid_stream", (request(path, json.dumps(body).encode()),), "read_some_and_reset")


def pipelined(random: Random) -> Hostile:
    return Hostile("pipelined", (b"".join(proper(random) for _ in range(random.randint(2, 5))),), random.choice(["read", "reset"]))


def slow(random: Random) -> Hostile:
    content = proper(random)
    cuts = sorted(random.sample(range(1, len(content)), 4))
    parts = tuple(content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True))
    return Hostile("slow", parts, random.choice(["read", "reset"]))


KINDS: tuple[Callable[[Random], Hostile], ...] = (
    bad_http,
    bad_json,
    wrong_types,
    wrong_headers,
    too_large,
    half_closed,
    reset_mid_body,
    reset_before_the_answer,
    reset_mid_stream,
    pipelined,
    slow,
)
