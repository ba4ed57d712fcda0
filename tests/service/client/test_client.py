"""The clients against the service itself, on loopback with a real database."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import get_type_hints

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import SecretStr

from service.client import (
    AsyncClient,
    AuthenticationFailed,
    Client,
    ConnectionFailed,
    GenerateOptions,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProblemError,
    RateLimited,
    RetryPolicy,
    ServiceUnavailable,
    VerifyOptions,
)
from service.receipts.verification import verify_receipt
from service.schemas.generate import GenerateRequest, Piece, StreamedResult, StreamEnd
from service.schemas.verify import VerifyRequest
from tests.service.harness import Served, serving, small_settings, until

ONCE = RetryPolicy(retries=0)
TOKEN = "csk_planted-secret-token"


def address(served: Served) -> str:
    return str(served.client.base_url)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    with Client(address(served), retries=ONCE) as client:
        yield client


def test_a_text_from_prompt_to_verdict_and_receipt(client: Client) -> None:
    answer = client.generate("Hello", issuer="newsroom", payload="2a", max_new_tokens=40, seed=3)
    (text,) = answer.results
    assert text.marking.watermark and text.marking.payload == "2a" and text.seed == 3 and answer.model == "fake-model"
    (verdict,) = client.verify(text.text, issuers=["newsroom"], detail="full").results
    assert (verdict.verdict, verdict.issuer, verdict.payload, verdict.receipts) == ("marked", "newsroom", "2a", [text.receipt_id])
    assert text.receipt_id is not None
    receipt = client.receipt(text.receipt_id)
    (key,) = client.signing_keys().keys
    public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public_key))
    assert verify_receipt(receipt.model_dump(), public_key, text.text).valid
    assert len({result.text for result in client.generate(["One", "Two"], max_new_tokens=20).results}) == 2
    assert [verdict.verdict for verdict in client.verify([text.text, "Nothing in here at all."]).results] == ["marked", "not_detected"]


def test_the_life_of_an_issuer(client: Client) -> None:
    assert client.create_issuer("acme", payload_bits=4).payload_bits == 4
    assert client.rotate_issuer("acme").key_version == 2
    assert client.rotate_issuer("acme", payload_bits=8).payload_bits == 8
    assert client.retire_issuer("acme").retired_at is not None
    assert "acme" in [issuer.name for issuer in client.issuers()]
    with pytest.raises(ProblemError) as retired:
        client.generate("Hello", issuer="acme")
    assert retired.value.status == 409


def test_a_stream(client: Client) -> None:
    events = list(client.stream(["One", "Two"], max_new_tokens=15, seed=2))
    *others, end = events
    assert isinstance(end, StreamEnd) and end.model == "fake-model"
    results = sorted((event for event in others if isinstance(event, StreamedResult)), key=lambda result: result.index)
    for result in results:
        assert "".join(event.text for event in others if isinstance(event, Piece) and event.index == result.index) == result.text
    whole = client.generate(["One", "Two"], max_new_tokens=15, seed=2)
    assert [result.text for result in results] == [result.text for result in whole.results]


def test_leaving_a_stream_cancels_it(served: Served, client: Client) -> None:
    with served.holding(after=1):
        stream = client.stream("Hello", max_new_tokens=300)
        assert isinstance(next(stream), Piece)
        assert served.engine.stats().running_prompts == 1
        stream.close()
        until(lambda: served.engine.stats().running_prompts == 0, "the place to be free")


def test_a_worker_that_dies_in_a_stream(served: Served, client: Client) -> None:
    with served.holding(after=1):
        stream = client.stream("Hello", max_new_tokens=300)
        next(stream)
        served.on_loop(lambda: asyncio.ensure_future(served.engine.die()))
        with pytest.raises(ServiceUnavailable) as died:
            list(stream)
    assert died.value.code == "worker_died" and died.value.request_id
    client.wait_until_ready(10)


def test_the_async_client_does_the_same(served: Served) -> None:
    async def use() -> None:
        async with AsyncClient(address(served), retries=ONCE) as client:
            assert (await client.wait_until_ready(10)).status == (await client.readiness()).status == "ready"
            answer = await client.generate("Hello", max_new_tokens=40, seed=3)
            (text,) = answer.results
            assert (await client.verify(text.text)).results[0].receipts == [text.receipt_id]
            assert text.receipt_id is not None
            assert (await client.receipt(text.receipt_id)).key_id == (await client.signing_keys()).keys[0].key_id
            assert (await client.create_issuer("async")).key_version == 1
            assert (await client.rotate_issuer("async", payload_bits=2)).payload_bits == 2
            assert (await client.retire_issuer("async")).retired_at is not None
            assert "async" in [issuer.name for issuer in await client.issuers()]
            events = [event async for event in client.stream("Hello", max_new_tokens=40, seed=3)]
            assert isinstance(events[-2], StreamedResult) and events[-2].text == text.text and isinstance(events[-1], StreamEnd)
            with served.holding(after=1):
                async with aclosing(client.stream("Hello", max_new_tokens=300)) as stream:
                    await anext(stream)
                await asyncio.to_thread(until, lambda: served.engine.stats().running_prompts == 0, "the place to be free")
            with pytest.raises(NotFound):
                await client.receipt("rcp_" + "x" * 22)

    asyncio.run(use())


def test_a_generation_that_is_sent_twice_is_done_once(served: Served, client: Client) -> None:
    before = len(served.engine.submitted)
    first, again = (client.generate("Hello", idempotency_key="the-same", max_new_tokens=20) for _ in range(2))
    assert first == again and len(served.engine.submitted) == before + 1
    with pytest.raises(InvalidRequest) as mismatch:
        client.generate("Hullo", idempotency_key="the-same", max_new_tokens=20)
    assert mismatch.value.code == "idempotency_mismatch"


def test_a_full_queue_is_waited_out(served: Served) -> None:
    def sleep(seconds: float) -> None:
        assert seconds >= 1  # as Retry-After says
        served.on_loop(lambda: setattr(served.engine, "queue_size", 64))

    served.on_loop(lambda: setattr(served.engine, "queue_size", 0))
    with Client(address(served)) as client:
        client._sleep = sleep
        assert client.generate("Hello", max_new_tokens=5).results


def test_errors_are_those_of_the_service(client: Client) -> None:
    with pytest.raises(NotFound) as unknown:
        client.generate("Hello", issuer="nobody")
    assert (unknown.value.status, unknown.value.code) == (404, "unknown_issuer") and unknown.value.request_id
    assert [place.pointer for place in unknown.value.errors] == ["/issuer"]
    with pytest.raises(InvalidRequest) as long:
        client.generate(["fine", "x" * 2001])
    assert long.value.errors[0].pointer == "/prompt/1" and long.value.code == "prompt_too_long"
    with pytest.raises(ProblemError) as poison:
        client.generate(["fine", "poison"])
    assert poison.value.status == 500 and poison.value.item == 1 and poison.value.error_id
    with pytest.raises(NotFound):
        client.retire_issuer("no/such issuer?")


def test_what_is_plainly_wrong_is_not_sent(served: Served, client: Client) -> None:
    before = len(served.engine.submitted)
    for refuse in (
        lambda: client.generate("SECRET-TEXT", temperature=11),
        lambda: client.stream("SECRET-TEXT", max_new_tokens=0),
        lambda: client.verify(["SECRET-TEXT", 5]),  # pyright: ignore[reportArgumentType]
        lambda: client.generate("SECRET-TEXT\ud800"),
    ):
        with pytest.raises(InvalidRequest, match="Nothing was sent") as refused:
            refuse()
        assert refused.value.errors and "SECRET-TEXT" not in str(refused.value)
    assert len(served.engine.submitted) == before


def test_keys_scopes_and_rates(tmp_path: Path) -> None:
    with serving(small_settings(tmp_path, authentication=True, generate_rate="1/minute")) as guarded:
        token = guarded.api_key("writer", "generate")["Authorization"].removeprefix("Bearer ")
        with Client(address(guarded), retries=ONCE) as nobody, Client(address(guarded), api_key=TOKEN, retries=ONCE) as stranger:
            assert nobody.verify("Some text.").results[0].receipts is None  # the public answer
            for client in (nobody, stranger):
                with pytest.raises(AuthenticationFailed) as unknown:
                    client.generate("Hello")
                assert TOKEN not in str(unknown.value)
        with Client(address(guarded), api_key=SecretStr(token), retries=ONCE) as writer:
            assert writer.generate("Hello", max_new_tokens=5).results
            with pytest.raises(PermissionDenied):
                writer.create_issuer("acme")
            with pytest.raises(RateLimited) as limited:
                writer.generate("Hello", max_new_tokens=5)
            assert limited.value.retry_after is not None and limited.value.retry_after >= 1


def test_nobody_there(served: Served) -> None:
    with Client("http://127.0.0.1:1", retries=ONCE) as client, pytest.raises(ConnectionFailed, match="GET /issuers failed: ConnectError"):
        client.issuers()


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "clé"])
def test_an_api_key_that_cannot_be_one_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(ValueError, match="api_key is empty or holds") as refused:
        Client("http://127.0.0.1:8000", api_key=key)
    assert not key or key not in str(refused.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", f"http://user:{TOKEN}@host"])
def test_an_address_that_cannot_be_one(url: str) -> None:
    with pytest.raises(ValueError, match="base_url") as refused:
        Client(url)
    assert TOKEN not in str(refused.value)


def test_the_api_key_is_in_no_repr() -> None:
    for client in (Client("http://host", api_key=TOKEN), AsyncClient("http://host", api_key=SecretStr(TOKEN))):
        assert TOKEN not in repr(client) + str(client) + repr(vars(client)) and "http://host" in repr(client)


def test_the_options_are_those_of_the_requests() -> None:
    beside = {"prompt", "text", "stream"}
    assert set(get_type_hints(GenerateOptions)) == set(GenerateRequest.model_fields) - beside
    assert set(get_type_hints(VerifyOptions)) == set(VerifyRequest.model_fields) - beside


def test_it_needs_no_model_and_no_web_framework() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'fastapi', 'starlette', 'uvicorn', 'sqlalchemy', 'tokenizers'}"
    code = f"import sys, service.client; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
