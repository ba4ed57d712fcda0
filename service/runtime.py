"""What the routes share while the service runs: settings, key ring, engine, and whether requests can be served."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

import structlog

from models.registry import checkpoint_folder, load_base_model
from service.engine import Engine, Model
from service.logging import describe_error
from service.schemas import Readiness
from service.settings import Settings
from service.worker import Unavailable, shutting_down
from watermark.codebook.keys import KeyRing
from watermark.errors import CountersignError

log = structlog.get_logger("countersign.runtime")


def load_model(settings: Settings) -> Model:
    """The watermarked model that the settings name. Takes seconds, or minutes the very first time. Raises CountersignError."""
    # The cheap check first: a missing checkpoint should not cost a model download.
    checkpoint = checkpoint_folder(settings.base_model, settings.checkpoint)
    from watermark.pipeline import WatermarkedModel

    return WatermarkedModel.load(load_base_model(settings.base_model, device=settings.device), checkpoint)


class Runtime:
    """`load` runs in a thread of its own, so that /livez answers at once; `running` spans the life of the service."""

    def __init__(self, settings: Settings, load: Callable[[], Model], on_load_failure: Callable[[BaseException], None] | None) -> None:
        self.settings = settings
        self.keys = KeyRing(settings.keys)
        self.engine: Engine | None = None
        self.draining = False
        self._load = load
        self._on_load_failure = on_load_failure
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drained = asyncio.Event()
        self._background: list[asyncio.Future[None]] = []  # the loop itself keeps only weak references

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._drained = asyncio.Event()
        main = asyncio.create_task(self._main())
        try:
            yield
        finally:
            self.begin_drain()
            await self._drained.wait()
            main.cancel()
            for outcome in await asyncio.gather(main, return_exceptions=True):
                if isinstance(outcome, Exception):
                    log.error("supervision_ended", **describe_error(outcome))
            log.info("stopped")

    def begin_drain(self) -> None:
        """Refuse new work from now on, and finish the old within `drain_seconds`. May be called from a signal handler."""
        if self._loop is None or self.draining:
            return
        self.draining = True
        self._loop.call_soon_threadsafe(lambda: self._background.append(asyncio.ensure_future(self._drain())))

    async def _drain(self) -> None:
        log.info("draining", seconds=self.settings.drain_seconds)
        try:
            if self.engine:
                await self.engine.drain(self.settings.drain_seconds)
        finally:
            self._drained.set()

    async def _main(self) -> None:
        """Load the model, then keep its workers alive."""
        loop = asyncio.get_running_loop()
        loaded: asyncio.Future[Model] = loop.create_future()

        def settle(model: Model | None, error: BaseException | None) -> None:
            if loaded.cancelled():
                return
            if error is not None:
                loaded.set_exception(error)
            elif model is not None:
                loaded.set_result(model)

        def work() -> None:  # a daemon thread: executor threads would hold up the exit for as long as a conversion takes
            model, failure = None, None
            try:
                model = self._load()
            except BaseException as error:  # a SystemExit, too, must not leave the service loading for ever
                failure = error if isinstance(error, Exception) else RuntimeError(f"loading ended by {type(error).__name__}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, model, failure)

        log.info("loading", base_model=self.settings.base_model, checkpoint=self.settings.checkpoint)
        threading.Thread(target=work, name="countersign-load", daemon=True).start()
        try:
            model = await loaded
        except Exception as error:
            self._failure = error
            reason = {"reason": str(error)} if isinstance(error, CountersignError) else {}
            log.error("load_failed", **reason, **describe_error(error))
            if self._on_load_failure:
                self._on_load_failure(error)
            return
        engine = Engine(model, self.settings)
        engine.start()
        self.engine = engine
        log.info("ready", model=model.lm.name, checkpoint=model.name)
        await engine.supervise()

    def require_engine(self) -> Engine:
        """Raises Unavailable while requests cannot be served."""
        if self.draining:
            raise shutting_down()
        if self._failure:
            raise Unavailable("load_failed", "The model could not be loaded; the server's log says why.", 60)
        if self.engine is None:
            raise Unavailable("loading", "The model is still loading. Try again in a few seconds.", 5)
        return self.engine

    def readiness(self) -> Readiness:
        status, detail = "ready", "Requests are served."
        if self.draining:
            status, detail = "draining", "The service is shutting down."
        elif self._failure:
            status, detail = "failed", "The model could not be loaded; the server's log says why."
        elif self.engine is None:
            status, detail = "loading", "The model is loading. The very first start converts it, which takes a few minutes."
        elif not self.engine.alive:
            down = ", ".join(worker.name for worker in self.engine.workers if not worker.alive)
            status, detail = "worker_down", f"The {down} worker stopped and is being restarted."
        engine = self.engine
        return Readiness(
            status=status,
            detail=detail,
            model=engine.model.lm.name if engine else self.settings.base_model,
            checkpoint=engine.model.name if engine else self.settings.checkpoint,
            waiting_prompts=engine.generation.waiting if engine else 0,
            waiting_texts=engine.verification.waiting if engine else 0,
            max_new_tokens=self.settings.max_new_tokens,
            max_prompt_characters=self.settings.max_prompt_characters,
            max_text_characters=self.settings.max_text_characters,
        )
