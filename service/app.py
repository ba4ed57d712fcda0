"""The application, built from settings by `create_app`. Nothing is built or read at import."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service import errors, openapi
from service.engine import Model
from service.middleware import RequestGuard
from service.page import page_router
from service.routes import router
from service.runtime import Runtime, load_model
from service.settings import Settings

API_VERSION = "0.1.0"
DESCRIPTION = """\
Marks text while a frozen language model writes it, and later says who issued a text, from the text alone.

Errors are RFC 9457 problem+json with a stable `code`. 503 answers carry `Retry-After`. There is no authentication yet: \
the service listens on loopback unless told otherwise."""


def create_app(
    settings: Settings,
    model: Model | None = None,
    *,
    load: Callable[[Settings], Model] = load_model,
    on_load_failure: Callable[[BaseException], None] | None = None,
) -> FastAPI:
    """The service. Its model is `model`, or what `load` returns; loading runs in the background after the start.

    `on_load_failure` is told when loading failed for good, so that a command can end the process.
    """
    runtime = Runtime(settings, (lambda: load(settings)) if model is None else (lambda: model), on_load_failure)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with runtime.running():
            yield

    app = FastAPI(
        title="Countersign",
        version=API_VERSION,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.runtime = runtime
    app.include_router(router)
    app.include_router(page_router())
    errors.install(app)
    app.add_middleware(RequestGuard, settings=settings)
    openapi.install(app)
    return app
