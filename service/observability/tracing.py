"""OpenTelemetry spans by FastAPI itself, sent to where the standard variables (`OTEL_EXPORTER_OTLP_ENDPOINT` …) say.

Off unless the settings say so, whatever other code configured globally: FastAPI's own log records would quote exceptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.telemetry import TelemetryConfig

from watermark.errors import InvalidInput

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

PROBES = ("/livez", "/readyz", "/metrics")
UNSAFE = ("url.path", "url.query", "server.address", "http.request.method_original")
"""Attributes that hold what a client wrote. The route's template is in `http.route`."""


def telemetry(provider: TracerProvider | None) -> TelemetryConfig:
    """FastAPI's configuration: spans of requests to `provider`, or nothing at all."""
    return {
        "tracing": provider is not None,
        "tracer_provider": provider,
        "metrics": False,  # Prometheus reads them
        "logs": False,  # they would hold exception messages, which can quote a text
        "auto_configure": False,
        "exclude": lambda scope: scope.get("path") in PROBES,
    }


def tracer_provider(exporter: SpanExporter | None = None) -> TracerProvider:
    """Spans in batches to `exporter`, by default OTLP over HTTP. Raises InvalidInput when the packages are not installed."""
    try:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
    except ImportError as error:
        raise InvalidInput(
            f"Tracing is switched on, but {error.name} is not installed. "
            "Run: pip install 'countersign[tracing]', or unset COUNTERSIGN_TRACING."
        ) from None

    class WithoutAddresses(SpanProcessor):
        def on_start(self, span: Span, parent_context: object = None) -> None:
            for name in UNSAFE:
                if span.attributes and name in span.attributes:
                    span.set_attribute(name, "")

    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "countersign"}))
    provider.add_span_processor(WithoutAddresses())
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
