"""What an operator can set, from the environment (`COUNTERSIGN_…`) or the command line. Built by `build_settings`, never at import."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from limits import parse_many
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.registry import DEFAULT_BASE_MODEL, Backend
from service.observability.logs import LogFormat
from service.schemas.common import MAX_LIST
from watermark.errors import InvalidInput

MIB = 1024 * 1024
ADMIN_KEY = re.compile("[\x21-\x7e]{32,}")
"""What an Authorization header can carry."""


def _rate(value: str) -> str:
    try:
        limits = parse_many(value)
    except ValueError:
        limits = []
    if not limits or any(limit.amount < 1 for limit in limits):
        raise ValueError("It should be a rate such as 60/minute, or several: 60/minute;1000/day")
    return value


Rate = Annotated[str, AfterValidator(_rate)]


def _admin_key(value: SecretStr) -> SecretStr:
    if not ADMIN_KEY.fullmatch(value.get_secret_value()):
        raise ValueError("It should be 32 or more letters, digits and signs of ASCII, without spaces; make one with: openssl rand -hex 32")
    return value


def _proxies(value: str) -> str:
    """A wrong one would be taken for a name that no address has, and a proxy of every address would let clients name themselves."""
    for proxy in value.split(","):
        try:
            network = ipaddress.ip_network(proxy.strip())
        except ValueError:
            raise ValueError(f"{proxy.strip()!r} is no address; give addresses, or networks such as 10.0.0.0/8, with commas") from None
        if not network.prefixlen:
            raise ValueError(f"{proxy.strip()} is everybody, and so any client could pass for any other; give the proxies only")
    return value


class Settings(BaseSettings):
    """Each description says when to change the value."""

    model_config = SettingsConfigDict(
        env_prefix="COUNTERSIGN_", frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    # -- where it listens, who may use it
    host: str = Field("127.0.0.1", description="Address to listen on. Beyond loopback only with authentication and an API key.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; change it when it is taken. 0 takes a free one.")
    authentication: bool | None = Field(
        None,
        description="Whether requests need an API key. Unset: beyond loopback yes, on loopback no. Beyond loopback it cannot be false.",
    )
    admin_key: Annotated[SecretStr, AfterValidator(_admin_key)] | None = Field(
        None,
        description="An API key with every scope, for the first start of a deployment: 32 or more visible ASCII characters, no spaces.",
    )
    trusted_proxies: Annotated[str, AfterValidator(_proxies)] | None = Field(
        None,
        description="Addresses or networks of reverse proxies whose X-Forwarded-For is believed, with commas. Set it behind one: else all "
        "of its clients share one address, and with it the limits of one.",
    )
    public_verification: bool = Field(
        True, description="With authentication: let anybody verify one text at a time, with a coarse answer and nothing kept."
    )
    public_rate: Rate = Field("20/minute;500/day", description="Public verifications per client address.")
    public_text_characters: int = Field(20_000, ge=1, description="Longest text of a public verification.")
    generate_rate: Rate = Field("120/minute", description="Generation requests per API key.")
    verify_rate: Rate = Field("1200/minute", description="Verification requests per API key.")
    redis_url: SecretStr | None = Field(
        None,
        min_length=1,
        description="redis://:PASSWORD@HOST:6379/0, where several replicas count these rates together. Unset: each counts for itself.",
    )

    # -- the model
    base_model: str = Field(DEFAULT_BASE_MODEL, min_length=1, description="Frozen language model: a short name, a folder or a hub id.")
    checkpoint: str | None = Field(
        None, min_length=1, description="Watermark checkpoint, by name or folder. Unset: the one shipped for base_model."
    )
    device: str = Field("cpu", min_length=1, description="Where the model runs: cpu, cuda, cuda:1. Change it when there is a GPU.")
    backend: Backend = Field(
        "auto",
        description="What runs the model. openvino: fast, on CPUs. torch: as transformers runs it. auto: openvino on the CPU where it can.",
    )
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads of each worker. Unset: one for every core.")

    # -- storage
    database_url: SecretStr | None = Field(
        None, description="postgresql://USER:PASSWORD@HOST/NAME, or sqlite:///FILE. Unset: a SQLite file in the data folder."
    )
    master_key: SecretStr | None = Field(
        None, description="Encrypts secrets in the database: 32 bytes in hex or base64url. Unset: read from master_key_file. Not both."
    )
    master_key_file: Path | None = Field(
        None,
        description="File with the master key; made at the first start. Unset: in the data folder. Back it up apart from the database.",
    )
    detector_url: str | None = Field(
        None,
        min_length=1,
        description="Where receipts say that a text can be verified: the public address of this service's /verify. Unset: made of host "
        "and port; set it when port is 0.",
    )
    receipt_days: int | None = Field(None, ge=1, description="Days that receipts are kept. Unset: for ever.")
    audit_days: int = Field(400, ge=1, description="Days that audit records are kept.")
    idempotency_seconds: float = Field(
        600, ge=0, le=86_400, description="How long the answer to a request with an Idempotency-Key is kept, in memory only."
    )

    # -- how much at once
    batch_size: int = Field(16, ge=1, le=256, description="Prompts generated together. Lower it when memory is short.")
    batch_tokens: int = Field(
        32_768,
        ge=512,
        description="Tokens that the running batch may hold: its prompts times the longest of them. Lower it when memory is short.",
    )
    queue_size: int = Field(64, ge=1, description="Prompts, and apart from them texts, that may wait; more are refused.")
    queue_tokens: int = Field(
        100_000, ge=1, description="Tokens, prompt and new ones, that may wait; more are refused. Raise it to ride out bursts."
    )
    max_prompts: int = Field(32, ge=1, le=MAX_LIST, description="Prompts in one request; at most queue_size.")
    max_texts: int = Field(64, ge=1, le=MAX_LIST, description="Texts in one verification; at most queue_size.")
    max_new_tokens: int = Field(1000, ge=1, description="Longest continuation that a request may ask for.")
    max_prompt_characters: int = Field(50_000, ge=1, description="Longest prompt; the model's own context may be shorter.")
    max_text_characters: int = Field(400_000, ge=1, description="Longest text to verify.")
    max_body_bytes: int = Field(2 * MIB, ge=1024, description="Largest request body.")
    verify_batch_characters: int = Field(
        2_000, ge=1, description="Characters verified together. A text waits for the batches before it; larger ones pay off on a GPU only."
    )
    deadline_seconds: float = Field(300.0, gt=0, description="A request that is not done after this time is given up.")

    # -- operation
    restart_seconds: float = Field(
        0.2, ge=0, le=60, description="Pause before a worker that died is started again; doubles while it keeps dying."
    )
    stall_seconds: float = Field(120.0, gt=0, description="A worker that shows no sign of life for so long is killed and started again.")
    drain_seconds: float = Field(
        30.0, ge=0, description="Time for running requests at shutdown. Keep it below the orchestrator's own limit."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe line logged.")
    log_format: LogFormat = Field("auto", description="json, console, or auto: console on a terminal, JSON elsewhere.")
    tracing: bool = Field(
        False, description="Send OpenTelemetry traces to where OTEL_EXPORTER_OTLP_ENDPOINT says. Needs the extra `tracing`."
    )

    @property
    def authenticated(self) -> bool:
        """Whether requests need an API key."""
        return self.authentication if self.authentication is not None else not is_loopback(self.host)

    @property
    def receipt_url(self) -> str:
        """Where receipts say that a text can be verified."""
        return self.detector_url or f"{local_url(self.host, self.port)}/verify"

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if max(self.max_prompts, self.max_texts) > self.queue_size:
            raise ValueError("queue_size must be at least max_prompts and max_texts: a longer list could never be accepted")
        if self.max_new_tokens >= min(self.queue_tokens, self.batch_tokens):
            raise ValueError("queue_tokens and batch_tokens must be above max_new_tokens: a longer text could never be accepted")
        if max(self.max_text_characters, self.max_prompt_characters, self.public_text_characters) > self.max_body_bytes:
            raise ValueError(
                "max_body_bytes must be at least max_text_characters, max_prompt_characters and public_text_characters: "
                "a text of that length could never arrive"
            )
        if self.master_key is not None and self.master_key_file is not None:
            raise ValueError("master_key and master_key_file are both set, and only one of them can be the key: unset the other")
        if not self.authenticated and not is_loopback(self.host):
            raise ValueError(f"host {self.host} is reachable from other machines, so authentication cannot be false")
        return self


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def local_url(host: str, port: int) -> str:
    """Of a service that listens there, for programs on the same machine."""
    plain = host.strip("[]")
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plain, plain)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def environment_of(**overrides: Any) -> dict[str, str]:
    """The variables that make `build_settings` of another process take those `overrides` that are not None."""
    return {
        f"COUNTERSIGN_{name.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in overrides.items()
        if value is not None
    }


def build_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with `overrides` that are not None on top. Raises InvalidInput naming each bad setting."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) + ': ' if item['loc'] else ''}{item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise InvalidInput(
            f"Cannot start with these settings: {'; '.join(problems)}. (Environment variables begin with COUNTERSIGN_.)"
        ) from None
