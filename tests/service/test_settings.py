from __future__ import annotations

import pytest

from service.settings import Settings, build_settings, is_loopback
from watermark.errors import InvalidInput


def test_defaults_are_local_and_take_long_texts() -> None:
    settings = build_settings()
    assert settings.host == "127.0.0.1" and not settings.authenticated
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
def test_beyond_loopback_everybody_needs_a_key(host: str) -> None:
    assert build_settings(host=host).authenticated
    with pytest.raises(InvalidInput, match="authentication cannot be false"):
        build_settings(host=host, authentication=False)


def test_on_loopback_keys_are_asked_for_on_demand() -> None:
    assert build_settings(authentication=True).authenticated


@pytest.mark.parametrize("rate", ["often", "0/minute", "10", "10/minute;x"])
def test_rates_that_are_none_are_named(rate: str) -> None:
    with pytest.raises(InvalidInput, match="generate_rate"):
        build_settings(generate_rate=rate)


@pytest.mark.parametrize("key", ["guess-me", "guess-me" * 3, f"guess-me {'x' * 40}", f"guess-me-{'ü' * 40}", f"guess-me{'x' * 40}\n"])
def test_an_admin_key_that_could_not_be_sent_or_could_be_guessed_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(InvalidInput, match="admin_key: It should be 32 or more") as refused:
        build_settings(admin_key=key)
    assert "guess-me" not in str(refused.value)


def test_two_master_keys_are_refused() -> None:
    with pytest.raises(InvalidInput, match="master_key and master_key_file are both set"):
        build_settings(master_key="5eed" * 16, master_key_file="some.key")


@pytest.mark.parametrize("name", ["max_text_characters", "max_prompt_characters", "public_text_characters"])
def test_texts_that_could_never_arrive_are_refused(name: str) -> None:
    small = {"max_text_characters": 10_000, "max_prompt_characters": 10_000, "public_text_characters": 10_000, "max_body_bytes": 10_000}
    build_settings(**small)
    with pytest.raises(InvalidInput, match=name):
        build_settings(**{**small, name: 10_001})


@pytest.mark.parametrize("proxies", ["*", "proxy.example", "10.0.0.1,", "0.0.0.0/0", "10.0.0.5/8"])
def test_proxies_are_addresses(proxies: str) -> None:
    with pytest.raises(InvalidInput, match="trusted_proxies"):
        build_settings(trusted_proxies=proxies)


def test_receipts_say_where_the_service_listens_unless_told_better() -> None:
    assert build_settings(port=9000).receipt_url == "http://127.0.0.1:9000/verify"
    assert build_settings(host="::", port=9000).receipt_url == "http://[::1]:9000/verify"
    assert build_settings(detector_url="https://marks.example/verify").receipt_url == "https://marks.example/verify"


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
        if any(word in name for word in ("secret", "password", "database_url", "admin_key")) or name == "master_key":
            assert "SecretStr" in str(field.annotation), f"{name} would be printed"
