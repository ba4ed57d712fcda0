"""The client for asyncio: `Client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx
from pydantic import BaseModel, SecretStr

from service.client import calls
from service.client.calls import Call, GenerateOptions, VerifyOptions
from service.client.connection import TIMEOUT_SECONDS, Connection, Waiting
from service.client.errors import ClientError
from service.client.events import EventReader, StreamEvent
from service.client.retries import Outcome, Pause, RetryPolicy, Send
from service.receipts.document import SignedReceipt
from service.schemas.generate import GenerateAnswer
from service.schemas.health import Readiness
from service.schemas.issuers import Issuer
from service.schemas.receipts import SigningKeysAnswer
from service.schemas.verify import VerifyAnswer

A = TypeVar("A", bound=BaseModel)


class AsyncClient(Connection):
    """Takes and raises what `Client` does. Close it with `async with` or `aclose`, and a stream left early with `contextlib.aclosing`."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: SecretStr | str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, api_key, timeout, retries)
        self._http = httpx.AsyncClient(**self._http_options(), transport=transport)
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def generate(
        self, prompt: str | Sequence[str], *, idempotency_key: str | None = None, **options: Unpack[GenerateOptions]
    ) -> GenerateAnswer:
        """Continue prompts with marked text. Always sent with an Idempotency-Key, so that no retry writes a text twice."""
        return await self._answer(calls.generate(prompt, options, idempotency_key))

    def stream(self, prompt: str | Sequence[str], **options: Unpack[GenerateOptions]) -> AsyncGenerator[StreamEvent, None]:
        """`Piece` while texts are written, a `StreamedResult` for each text, then a `StreamEnd`. Leaving the loop cancels the rest."""
        return self._events(calls.stream(prompt, options))

    async def verify(self, text: str | Sequence[str], **options: Unpack[VerifyOptions]) -> VerifyAnswer:
        """Test texts for marks: one verdict each, in order."""
        return await self._answer(calls.verify(text, options))

    async def issuers(self) -> list[Issuer]:
        return (await self._answer(calls.issuers())).issuers

    async def create_issuer(self, name: str, *, payload_bits: int = 0) -> Issuer:
        return await self._answer(calls.create_issuer(name, payload_bits))

    async def rotate_issuer(self, name: str, *, payload_bits: int | None = None) -> Issuer:
        """A fresh key; the old ones go on verifying. `payload_bits` None: as before."""
        return await self._answer(calls.rotate_issuer(name, payload_bits))

    async def retire_issuer(self, name: str) -> Issuer:
        """It marks nothing any more; its texts still verify."""
        return await self._answer(calls.retire_issuer(name))

    async def receipt(self, receipt_id: str) -> SignedReceipt:
        return await self._answer(calls.receipt(receipt_id))

    async def signing_keys(self) -> SigningKeysAnswer:
        """The public keys that receipts are checked with."""
        return await self._answer(calls.signing_keys())

    async def readiness(self) -> Readiness:
        """Whether requests are served now. Asked once, and no error when they are not."""
        return await self._answer(calls.readiness())

    async def wait_until_ready(self, timeout: float = 120.0) -> Readiness:
        """Raises DeadlineExceeded when the service is not ready within `timeout` seconds, ServiceUnavailable when it cannot be."""
        waiting = Waiting(timeout, self._policy.now)
        while True:
            try:
                seen = await self._answer(calls.readiness(), waiting.left())
            except ClientError as error:
                seen = error
            if isinstance(seen, Readiness) and seen.status == "ready":
                return seen
            await self._sleep(waiting.pause(seen))

    async def _answer(self, call: Call[A], seconds: float | None = None) -> A:
        return call.read(await self._deliver(call, seconds))

    async def _events(self, call: Call[GenerateAnswer]) -> AsyncGenerator[StreamEvent, None]:
        response = await self._deliver(call, stream=True)
        try:
            reader = EventReader(response.headers.get("x-request-id"))
            async for data in response.aiter_bytes():
                for event in reader.feed(data):
                    yield event
            reader.end()
        except httpx.RequestError as error:
            call.delivered(error, stream=True)
        finally:
            await response.aclose()

    async def _deliver(self, call: Call[A], seconds: float | None = None, *, stream: bool = False) -> httpx.Response:
        """The response to the last attempt: read, or a stream that has begun. Raises as Client says."""
        steps = self._steps(call, seconds)
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                return call.delivered(done.value, stream)
            if isinstance(step, Pause):
                await self._sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._once(call, step, stream)

    async def _once(self, call: Call[A], step: Send, stream: bool) -> Outcome:
        try:
            response = await self._http.send(self._http.build_request(**self._request_options(call, step)), stream=stream)
            if stream and not calls.streams(response):
                await response.aread()
            return response
        except httpx.RequestError as error:
            return error
