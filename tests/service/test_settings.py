from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from service.settings import Settings, build_settings, is_loopback
from watermark.errors import InvalidInput


def test_defaults_are_local_and_take_long_texts(own_home: Path) -> None:
    settings = build_settings()
    assert settings.host == "127.0.0.1" and not settings.allow_remote
    assert settings.keys == own_home / "keys"
    assert settings.max_text_characters >= 200_000 and settings.max_body_bytes > 4 * 200_000
    assert settings.queue_size >= max(settings.max_prompts, settings.max_texts)


def test_the_environment_sets_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_PORT", "8123")
    monkeypatch.setenv("COUNTERSIGN_BATCH_SIZE", "3")
    monkeypatch.setenv("COUNTERSIGN_CHECKPOINT", "")
    monkeypatch.setenv("COUNTERSIGN_CACHE", "/somewhere")  # the library's own; no setting of the service
    settings = build_settings(port=9000, host=None)
    assert (settings.port, settings.batch_size, settings.host, settings.checkpoint) == (9000, 3, "127.0.0.1", None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_no_listening_beyond_loopback_without_saying_so(host: str) -> None:
    with pytest.raises(InvalidInput, match="no authentication yet"):
        build_settings(host=host)
    assert build_settings(host=host, allow_remote=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host) and build_settings(host=host).host == host


@pytest.mark.parametrize(
    ("name", "value"), [("port", 70_000), ("port", "x"), ("batch_size", 0), ("log_format", "xml"), ("queue_size", 2), ("max_prompts", 1000)]
)
def test_bad_values_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setenv(f"COUNTERSIGN_{name.upper()}", str(value))
    with pytest.raises(InvalidInput, match=name):
        build_settings()


def test_every_setting_is_described_and_a_secret_would_be_masked() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description and len(field.description) > 20, name
        if any(word in name for word in ("secret", "password", "token_", "api_key")):
            assert field.annotation is SecretStr, f"{name} would be printed"
