"""`countersign serve --engine ray`: Ray on this machine, and the application on it, until a signal."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import ray
from ray import serve

from service.cluster.application import NAME, Replicas, application
from service.settings import Settings


def start_ray(host: str, port: int, cores: int) -> None:
    """A new Ray on this machine with Serve listening at `port`, which must be free. Its processes inherit this one's environment.

    `cores`: what the replicas ask for, which they must find on the smallest machine too.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    cores = max(cores, os.cpu_count() or 1)
    ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port}, logging_config={"log_level": "WARNING"})


def serve_on_ray(settings: Settings, replicas: Replicas) -> None:
    """Until SIGINT or SIGTERM; requests in work are finished. The port must be free, and `settings` be what the environment says."""
    ended = threading.Event()
    start_ray(settings.host, settings.port, cores=(replicas.generation + replicas.verification) * (settings.threads or 1))
    with _signals(ended):  # not before: Ray takes SIGTERM for a crash when it starts
        try:
            serve.run(application(settings, replicas), name=NAME, blocking=False)
            ended.wait()
            serve.delete(NAME)  # which waits for requests in work; a shutdown alone would cut them off
        finally:
            serve.shutdown()
            ray.shutdown()


@contextlib.contextmanager
def _signals(ended: threading.Event) -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
