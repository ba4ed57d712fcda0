from __future__ import annotations

import builtins
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.app import create_app
from service.observability.tracing import telemetry
from tests.service.fake_engine import FakeEngine
from tests.service.harness import serving, small_settings
from watermark.errors import InvalidInput

PLANTED = "Xylophone-Quokka-7391"


def test_spans_name_the_route_and_hold_no_text(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    with serving(small_settings(tmp_path, tracing=True), span_exporter=exporter) as served:
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        body = {"prompt": PLANTED, "max_new_tokens": 5}
        assert served.client.post("/generate", json=body, headers={"traceparent": parent}).status_code == 200
        served.client.post("/generate", json={**body, "stream": True})
        served.client.post("/generate", json={"prompt": f"poison {PLANTED}"})
        served.client.post("/verify", json={"text": PLANTED, "issuers": [PLANTED]})
        served.client.post("/verify", content=f'{{"text": "{PLANTED}"', headers={"Content-Type": "application/json"})
        served.client.get(f"/{PLANTED}?text={PLANTED}")
        served.client.get("/livez")
    spans = exporter.get_finished_spans()  # they were sent when the service stopped
    requests = [span for span in spans if span.kind.name == "SERVER"]
    named = [span.name for span in requests]
    assert named.count("POST /generate") == 3 and named.count("POST /verify") == 2 and "GET /livez" not in named
    first = next(span for span in requests if span.name == "POST /generate")
    assert first.context is not None and first.context.trace_id == 0x4BF92F3577B34DA6A3CE929D0E0E4736
    assert (first.attributes or {})["http.response.status_code"] == 200
    assert (first.resource.attributes or {})["service.name"] == "countersign"
    for span in spans:
        assert PLANTED not in span.to_json(), span.name
        assert not any("message" in name or "stacktrace" in name for event in span.events for name in event.attributes or {})


def test_without_the_packages_the_operator_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small_settings(tmp_path, tracing=True)
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("opentelemetry.exporter"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidInput, match=r"opentelemetry\.exporter.* pip install 'countersign\[tracing\]'"):
        create_app(settings, engine=FakeEngine())


def test_switched_off_nothing_is_recorded_whatever_is_configured_globally() -> None:
    config = telemetry(None)
    assert not any(config.get(signal) for signal in ("tracing", "metrics", "logs", "auto_configure"))
