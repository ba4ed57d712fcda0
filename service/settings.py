"""What an operator can set, from the environment (`COUNTERSIGN_…`) or the command line. Built by `build_settings`, never at import."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.registry import DEFAULT_BASE_MODEL
from service.logging import LogFormat
from service.schemas import MAX_LIST
from watermark.errors import InvalidInput
from watermark.folders import key_folder

MIB = 1024 * 1024


class Settings(BaseSettings):
    """Each description says when to change the value. A secret among these would be a `SecretStr`, so that printing masks it."""

    model_config = SettingsConfigDict(
        env_prefix="COUNTERSIGN_", frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on. Beyond loopback only with allow_remote.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; change it when it is taken. 0 takes a free one.")
    allow_remote: bool = Field(
        False, description="Listen beyond loopback. The API has no authentication yet: only where something in front of it has."
    )
    base_model: str = Field(DEFAULT_BASE_MODEL, min_length=1, description="Frozen language model: a short name, a folder or a hub id.")
    checkpoint: str | None = Field(
        None, min_length=1, description="Watermark checkpoint, by name or folder. Unset: the one shipped for base_model."
    )
    keys: Path = Field(
        default_factory=key_folder, description="Folder of the issuer keys. Back it up: without a key its marks cannot be read."
    )
    device: str = Field("cpu", min_length=1, description="Where the model runs: cpu, cuda, cuda:1. Change it when there is a GPU.")

    batch_size: int = Field(16, ge=1, le=256, description="Prompts generated together. Lower it when memory is short.")
    queue_size: int = Field(
        64, ge=1, description="Prompts (and, apart, texts) that may wait; more are refused. Raise it to ride out bursts."
    )
    max_prompts: int = Field(32, ge=1, le=MAX_LIST, description="Prompts in one request; at most queue_size.")
    max_texts: int = Field(64, ge=1, le=MAX_LIST, description="Texts in one verification; at most queue_size.")
    max_new_tokens: int = Field(1000, ge=1, description="Longest continuation that a request may ask for.")
    max_prompt_characters: int = Field(50_000, ge=1, description="Longest prompt; the model's own context may be shorter.")
    max_text_characters: int = Field(400_000, ge=1, description="Longest text to verify.")
    max_body_bytes: int = Field(2 * MIB, ge=1024, description="Largest request body.")
    verify_batch_characters: int = Field(20_000, ge=1, description="Characters verified together. Lower it when memory is short.")

    restart_seconds: float = Field(1.0, ge=0, le=60, description="Pause before a worker that died is started again.")
    drain_seconds: float = Field(
        30.0, ge=0, description="Time for running requests at shutdown. Keep it below the orchestrator's own limit."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe line logged.")
    log_format: LogFormat = Field("auto", description="json, console, or auto: console on a terminal, JSON elsewhere.")

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if max(self.max_prompts, self.max_texts) > self.queue_size:
            raise ValueError("queue_size must be at least max_prompts and max_texts: a longer list could never be accepted")
        if not self.allow_remote and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable from other machines and the API has no authentication yet. Listen on 127.0.0.1, "
                "or set allow_remote (--allow-remote) if something in front of the service checks who may use it"
            )
        return self


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


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
