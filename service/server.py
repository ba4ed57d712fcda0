"""The HTTP server: uvicorn, told to log through our formatter and to drain in good order."""

from __future__ import annotations

from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.runtime import Runtime

GRACE = 5
"""Seconds after the drain in which the last answers are sent."""


def server_config(app: FastAPI, *, drain_seconds: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody is trusted to rewrite addresses
        ws="none",
        timeout_keep_alive=30,  # longer than the page's own pause between two looks
        timeout_graceful_shutdown=drain_seconds + GRACE,
    )


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT the queue is closed at once: requests in work are finished, new ones on open connections refused."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._runtime.begin_drain()
        super().handle_exit(sig, frame)
