"""The HTTP server: uvicorn, told to log through our formatter and to drain in good order."""

from __future__ import annotations

import math
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.runtime import Runtime
from service.settings import Settings

GRACE = 5
"""Seconds after the drain in which the last answers are sent."""


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    proxies = trusted_proxies(settings)
    return uvicorn.Config(
        app,
        lifespan="on",
        http="h11",  # never what happens to be installed: the parsers differ in what they refuse
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,  # never None: uvicorn would then ask the environment
        ws="none",
        timeout_keep_alive=30,  # longer than the page's own pause between two looks
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds) + GRACE,
    )


def trusted_proxies(settings: Settings) -> list[str]:
    return [proxy.strip() for proxy in settings.trusted_proxies.split(",")] if settings.trusted_proxies else []


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT the queue is closed at once: requests in work are finished, new ones on open connections refused."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._runtime.begin_drain()
        super().handle_exit(sig, frame)
