"""The application, built from settings by `create_app`. Nothing is built or read at import."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from service import errors, openapi
from service.api import routers
from service.api.openai import errors as openai_errors
from service.engine.protocol import Engine
from service.middleware import RequestGuard
from service.observability.tracing import telemetry, tracer_provider
from service.page import page_router
from service.runtime import OnFailure, Runtime
from service.settings import Settings
from service.storage.open import Storage
from watermark.calibration.key_check import KeyCheck

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

API_VERSION = "0.1.0"


def create_app(
    settings: Settings,
    *,
    engine: Engine,
    storage: Storage | None = None,
    prepare: Callable[[Storage], None] | None = None,
    on_load_failure: OnFailure | None = None,
    read_key_check: Callable[[], KeyCheck] | None = None,
    span_exporter: SpanExporter | None = None,
) -> FastAPI:
    """The service on top of `engine`, which is started and stopped with it. `storage`, when not given, is opened from the settings;
    `prepare` is called with it, in a thread, before any request is served.

    `on_load_failure` is told when model or storage failed for good, so that a command can end the process. `read_key_check` replaces
    the check of new keys against the checkpoint, `span_exporter` the one that OpenTelemetry's variables name.
    Raises InvalidInput: tracing without its packages.
    """
    runtime = Runtime(settings, engine, storage, prepare=prepare, on_failure=on_load_failure, read_key_check=read_key_check)
    spans = tracer_provider(span_exporter) if settings.tracing else None

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with runtime.running():
            yield
        if spans is not None:
            spans.shutdown()  # sends what is left

    app = FastAPI(
        title="Countersign",
        version=API_VERSION,
        description=openapi.DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry=telemetry(spans),
    )
    app.state.runtime = runtime
    for router in routers():
        app.include_router(router)
    app.include_router(page_router())
    errors.install(app, {openai_errors.PREFIX: openai_errors.openai_shape})
    runtime.metrics.instrument(app)
    app.add_middleware(RequestGuard, settings=settings)  # last, and so outermost
    openapi.install(app)
    return app
