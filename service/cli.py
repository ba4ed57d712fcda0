"""`countersign serve`: the service on this machine, ready for a browser."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from watermark.cli.common import BaseModelOption, CheckpointOption, JsonOption
from watermark.errors import InvalidInput
from watermark.folders import data_folder

if TYPE_CHECKING:
    from service.cluster.application import Replicas
    from service.first_start import FirstIssuers
    from service.settings import Settings
    from service.storage.open import Storage


class ServeEngine(StrEnum):
    batching = "batching"
    ray = "ray"


def register(app: typer.Typer) -> None:
    """Add the command to `app`, which reports the errors."""
    app.command()(serve)


def serve(
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address to listen on; beyond loopback requests need an API key. [default: 127.0.0.1]"),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Change it when it is taken; 0 takes a free one. [default: 8000]")] = None,
    base_model: BaseModelOption = None,
    checkpoint: CheckpointOption = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, or cuda where there is a GPU. [default: cpu]")] = None,
    authentication: Annotated[
        bool | None, typer.Option(help="Whether requests need an API key. [default: beyond loopback yes, on loopback no]")
    ] = None,
    engine: Annotated[
        ServeEngine, typer.Option(help="ray: Ray Serve on this machine, for replicas that stand in for each other. Needs the extra `ray`.")
    ] = ServeEngine.batching,
    generation_replicas: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="With --engine ray: processes that write, each with its batch. [default: 1]")
    ] = None,
    verification_replicas: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="With --engine ray: processes that verify. [default: 1]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the REST API and its page until Ctrl+C. Further settings come from the environment (COUNTERSIGN_…)."""
    from service.settings import build_settings, environment_of

    options = {"host": host, "port": port, "base_model": base_model, "checkpoint": checkpoint}
    options |= {"device": device, "authentication": authentication}
    settings = build_settings(**options)
    if engine is ServeEngine.batching:
        if generation_replicas or verification_replicas:
            raise InvalidInput("--generation-replicas and --verification-replicas go with --engine ray.")
        run(settings, as_json)
        return
    try:
        from service.cluster.application import Replicas
    except ModuleNotFoundError as error:
        raise InvalidInput(f"--engine ray needs the extra `ray` ({error.name} is missing): pip install 'countersign[ray]'") from None
    os.environ.update(environment_of(**options))  # for the processes that Ray starts
    run_on_ray(settings, Replicas(generation=generation_replicas or 1, verification=verification_replicas or 1), as_json)


def run(settings: Settings, as_json: bool = False) -> None:
    """Serve until a signal. Raises CountersignError, or what else made loading fail."""
    # Heavy imports wait until the options are known to be good.
    from models.registry import checkpoint_folder
    from service.engine.nursery import Nursery

    checkpoint = checkpoint_folder(settings.base_model, settings.checkpoint)
    failures: list[BaseException] = []

    def on_load_failure(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    def prepare(storage: Storage) -> None:
        require_api_keys(settings, storage)
        announce(address, first_issuers(storage, checkpoint), as_json)

    with listen(settings.host, settings.port) as listening, contextlib.closing(Nursery()) as nursery:
        # The nursery's imports and these take a second each, on two cores at once.
        from service.app import create_app
        from service.engine.engine import BatchingEngine
        from service.engine.loading import LoadModel
        from service.first_start import first_issuers, require_api_keys
        from service.observability.logs import configure_logging
        from service.server import Server, server_config
        from service.settings import local_url

        address = local_url(settings.host, listening.getsockname()[1])
        configure_logging(settings.log_level, settings.log_format)
        engine = BatchingEngine(settings, LoadModel.of(settings), nursery)
        app = create_app(settings, engine=engine, prepare=prepare, on_load_failure=on_load_failure)
        server = Server(server_config(app, settings), app.state.runtime)
        with contextlib.suppress(KeyboardInterrupt):  # raised again by uvicorn after it has shut down in good order
            server.run(sockets=[listening])
    if failures:
        raise failures[0]


def run_on_ray(settings: Settings, replicas: Replicas, as_json: bool = False) -> None:
    """Serve with Ray on this machine until a signal. Raises CountersignError, or what else made loading fail."""
    from models.registry import checkpoint_folder
    from service.cluster.local import serve_on_ray
    from service.first_start import first_issuers, require_api_keys
    from service.observability.logs import configure_logging
    from service.settings import local_url
    from service.storage.open import open_storage

    checkpoint = checkpoint_folder(settings.base_model, settings.checkpoint)
    with listen(settings.host, settings.port) as free:  # the errors of a bad address, and a number for port 0
        settings = settings.model_copy(update={"port": free.getsockname()[1]})
    configure_logging(settings.log_level, settings.log_format)
    with contextlib.closing(open_storage(settings)) as storage:
        require_api_keys(settings, storage)
        announce(local_url(settings.host, settings.port), first_issuers(storage, checkpoint), as_json)
    serve_on_ray(settings, replicas)


def announce(address: str, first: FirstIssuers | None, as_json: bool) -> None:
    """Tell the person, or the program, that started the service where it is, and of issuers made for it."""
    if as_json:
        issuer = {"issuer_created": first and first.created, "issuers_imported": list(first.imported) if first else []}
        line = json.dumps({"url": address, **issuer, "issuer_checked": bool(first and first.created and first.check.texts)})
    else:
        line = f"Open {address} in a browser. The model loads meanwhile; Ctrl+C stops the server."
        if first:
            line = f"{first.words} Back up {data_folder()}: without its keys, their marks cannot be read.\n{line}"
    print(line, flush=True)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises InvalidInput: address unknown or port taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # from now on a request waits for the server instead of being refused
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "that is no address"
        raise InvalidInput(f"Cannot listen on {host} port {port}: {reason}. Choose another with --host or --port.") from None
    return listening
