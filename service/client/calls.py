"""The API's calls as values, built alike for the sync and the async client. Requests are checked before they are sent."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from service.client.errors import ConnectionFailed, DeadlineExceeded, UnexpectedAnswer, invalid_request, refusal
from service.client.retries import Outcome
from service.receipts.document import SignedReceipt
from service.schemas.generate import GenerateAnswer, GenerateRequest
from service.schemas.health import Readiness
from service.schemas.issuers import CreateIssuerRequest, Issuer, IssuersAnswer, RotateIssuerRequest
from service.schemas.receipts import SigningKeysAnswer
from service.schemas.verify import VerifyAnswer, VerifyRequest

A = TypeVar("A", bound=BaseModel)
B = TypeVar("B", bound=BaseModel)


class GenerateOptions(TypedDict, total=False):
    """Everything of `GenerateRequest` but the prompt; its descriptions say what each does and what is taken when it is left out."""

    issuer: str | None
    payload: str | None
    strength: float
    max_new_tokens: int
    min_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int | None
    stop: list[str] | None
    receipt: bool


class VerifyOptions(TypedDict, total=False):
    """Everything of `VerifyRequest` but the text."""

    issuers: list[str] | None
    false_positive_rate: float
    detail: Literal["public", "full"] | None


@dataclass(frozen=True)
class Call(Generic[A]):
    method: str
    path: str
    answer: type[A]
    body: BaseModel | None = field(default=None, repr=False)  # it holds the user's text
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    """May reach the service twice without another effect than once."""
    retried: bool = True
    answers: tuple[int, ...] = (200, 201)
    """Statuses whose body is an `answer`."""

    def content(self) -> bytes | None:
        # Only what was given: the defaults are the service's, and a field that it does not know yet is not sent unasked.
        return None if self.body is None else self.body.model_dump_json(exclude_unset=True).encode()

    def read(self, response: httpx.Response) -> A:
        """The answer in a response that has been read. Raises ProblemError and UnexpectedAnswer."""
        try:
            if response.status_code in self.answers:
                return self.answer.model_validate_json(response.content)
        except ValidationError:
            if response.is_success:
                raise UnexpectedAnswer(
                    f"{self.method} {self.path} was answered with something that is no {self.answer.__name__}."
                ) from None
        if response.is_error:
            raise refusal(response)
        raise UnexpectedAnswer(f"{self.method} {self.path} was answered with status {response.status_code}.")

    def delivered(self, outcome: Outcome, stream: bool) -> httpx.Response:
        """The response, if there is one and it is of the kind asked for. Raises ClientError."""
        what = f"{self.method} {self.path}"
        if isinstance(outcome, (httpx.ReadTimeout, httpx.WriteTimeout)):
            raise DeadlineExceeded(f"{what} was not answered in time.") from outcome
        if isinstance(outcome, httpx.RequestError):
            raise ConnectionFailed(f"{what} failed: {type(outcome).__name__}: {outcome}") from outcome  # holds no header and no body
        if stream and not streams(outcome):
            raise refusal(outcome) if outcome.is_error else UnexpectedAnswer(f"{what} was not answered with a stream.")
        return outcome


def streams(response: httpx.Response) -> bool:
    return response.is_success and response.headers.get("content-type", "").startswith("text/event-stream")


def generate(prompt: str | Sequence[str], options: GenerateOptions, idempotency_key: str | None) -> Call[GenerateAnswer]:
    body = _checked(GenerateRequest, prompt=_plain(prompt), **options)
    key = uuid.uuid4().hex if idempotency_key is None else idempotency_key
    return Call("POST", "/generate", GenerateAnswer, body, {"Idempotency-Key": key})


def stream(prompt: str | Sequence[str], options: GenerateOptions) -> Call[GenerateAnswer]:
    body = _checked(GenerateRequest, prompt=_plain(prompt), stream=True, **options)
    return Call("POST", "/generate", GenerateAnswer, body, repeatable=False)


def verify(text: str | Sequence[str], options: VerifyOptions) -> Call[VerifyAnswer]:
    return Call("POST", "/verify", VerifyAnswer, _checked(VerifyRequest, text=_plain(text), **options))


def issuers() -> Call[IssuersAnswer]:
    return Call("GET", "/issuers", IssuersAnswer)


def create_issuer(name: str, payload_bits: int) -> Call[Issuer]:
    body = _checked(CreateIssuerRequest, name=name, payload_bits=payload_bits)
    return Call("POST", "/issuers", Issuer, body, repeatable=False)


def rotate_issuer(name: str, payload_bits: int | None) -> Call[Issuer]:
    body = _checked(RotateIssuerRequest, **({} if payload_bits is None else {"payload_bits": payload_bits}))
    return Call("POST", f"/issuers/{quote(name, safe='')}/rotate", Issuer, body, repeatable=False)


def retire_issuer(name: str) -> Call[Issuer]:
    return Call("POST", f"/issuers/{quote(name, safe='')}/retire", Issuer, repeatable=False)


def receipt(receipt_id: str) -> Call[SignedReceipt]:
    return Call("GET", f"/receipts/{quote(receipt_id, safe='')}", SignedReceipt)


def signing_keys() -> Call[SigningKeysAnswer]:
    return Call("GET", "/signing-keys", SigningKeysAnswer)


def readiness() -> Call[Readiness]:
    return Call("GET", "/readyz", Readiness, retried=False, answers=(200, 503))


def _plain(text: str | Sequence[str]) -> Any:
    return text if isinstance(text, str) else list(text)


def _checked(schema: type[B], **values: Any) -> B:
    """Raises InvalidRequest, which names the place and does not quote the value."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise invalid_request(error) from None
