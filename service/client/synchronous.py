"""The client for ordinary code."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
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


class Client(Connection):
    """Every method raises ProblemError, or the kind of it that fits, for what the service refuses; besides, ConnectionFailed,
    DeadlineExceeded and UnexpectedAnswer. May be shared between threads.

    base_url: of the service, such as http://127.0.0.1:8000.
    api_key: not needed on loopback without authentication.
    timeout: seconds for one call in all, with its retries and the pauses between them; for a stream, until it begins, and then
        between one event and the next.
    transport: in place of httpx's own, for unusual networks and for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: SecretStr | str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, api_key, timeout, retries)
        self._http = httpx.Client(**self._http_options(), transport=transport)
        self._sleep: Callable[[float], None] = time.sleep

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def generate(
        self, prompt: str | Sequence[str], *, idempotency_key: str | None = None, **options: Unpack[GenerateOptions]
    ) -> GenerateAnswer:
        """Continue prompts with marked text. Always sent with an Idempotency-Key, so that no retry writes a text twice."""
        return self._answer(calls.generate(prompt, options, idempotency_key))

    def stream(self, prompt: str | Sequence[str], **options: Unpack[GenerateOptions]) -> Generator[StreamEvent, None, None]:
        """`Piece` while texts are written, a `StreamedResult` for each text, then a `StreamEnd`. Leaving the loop cancels the rest."""
        return self._events(calls.stream(prompt, options))

    def verify(self, text: str | Sequence[str], **options: Unpack[VerifyOptions]) -> VerifyAnswer:
        """Test texts for marks: one verdict each, in order."""
        return self._answer(calls.verify(text, options))

    def issuers(self) -> list[Issuer]:
        return self._answer(calls.issuers()).issuers

    def create_issuer(self, name: str, *, payload_bits: int = 0) -> Issuer:
        return self._answer(calls.create_issuer(name, payload_bits))

    def rotate_issuer(self, name: str, *, payload_bits: int | None = None) -> Issuer:
        """A fresh key; the old ones go on verifying. `payload_bits` None: as before."""
        return self._answer(calls.rotate_issuer(name, payload_bits))

    def retire_issuer(self, name: str) -> Issuer:
        """It marks nothing any more; its texts still verify."""
        return self._answer(calls.retire_issuer(name))

    def receipt(self, receipt_id: str) -> SignedReceipt:
        return self._answer(calls.receipt(receipt_id))

    def signing_keys(self) -> SigningKeysAnswer:
        """The public keys that receipts are checked with."""
        return self._answer(calls.signing_keys())

    def readiness(self) -> Readiness:
        """Whether requests are served now. Asked once, and no error when they are not."""
        return self._answer(calls.readiness())

    def wait_until_ready(self, timeout: float = 120.0) -> Readiness:
        """Raises DeadlineExceeded when the service is not ready within `timeout` seconds, ServiceUnavailable when it cannot be."""
        waiting = Waiting(timeout, self._policy.now)
        while True:
            try:
                seen = self._answer(calls.readiness(), waiting.left())
            except ClientError as error:
                seen = error
            if isinstance(seen, Readiness) and seen.status == "ready":
                return seen
            self._sleep(waiting.pause(seen))

    def _answer(self, call: Call[A], seconds: float | None = None) -> A:
        return call.read(self._deliver(call, seconds))

    def _events(self, call: Call[GenerateAnswer]) -> Generator[StreamEvent, None, None]:
        response = self._deliver(call, stream=True)
        try:
            reader = EventReader(response.headers.get("x-request-id"))
            for data in response.iter_bytes():
                yield from reader.feed(data)
            reader.end()
        except httpx.RequestError as error:
            call.delivered(error, stream=True)
        finally:
            response.close()

    def _deliver(self, call: Call[A], seconds: float | None = None, *, stream: bool = False) -> httpx.Response:
        """The response to the last attempt: read, or a stream that has begun. Raises as Client says."""
        steps = self._steps(call, seconds)
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                return call.delivered(done.value, stream)
            if isinstance(step, Pause):
                self._sleep(step.seconds)
                outcome = None
            else:
                outcome = self._once(call, step, stream)

    def _once(self, call: Call[A], step: Send, stream: bool) -> Outcome:
        try:
            response = self._http.send(self._http.build_request(**self._request_options(call, step)), stream=stream)
            if stream and not calls.streams(response):
                response.read()
            return response
        except httpx.RequestError as error:
            return error
