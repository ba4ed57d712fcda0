"""`countersign serve`: the service on this machine, ready for a browser."""

from __future__ import annotations

import contextlib
import json
import math
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from watermark.cli.common import BaseModelOption, CheckpointOption, JsonOption
from watermark.errors import InvalidInput

if TYPE_CHECKING:
    from service.settings import Settings
    from watermark.calibration.key_check import KeyCheck


def register(app: typer.Typer) -> None:
    """Add the command to `app`, which reports the errors."""
    app.command()(serve)


def serve(
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address to listen on; beyond loopback only with --allow-remote. [default: 127.0.0.1]"),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Change it when it is taken; 0 takes a free one. [default: 8000]")] = None,
    base_model: BaseModelOption = None,
    checkpoint: CheckpointOption = None,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the key ring. An empty one gets a key named 'default'. [default: your data folder]"),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, or cuda where there is a GPU. [default: cpu]")] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen beyond loopback. The API has no authentication yet: know what is in front of it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve the REST API and its page until Ctrl+C. Further settings come from the environment (COUNTERSIGN_…)."""
    from service.settings import build_settings

    settings = build_settings(
        host=host,
        port=port,
        base_model=base_model,
        checkpoint=checkpoint,
        keys=keys,
        device=device,
        allow_remote=allow_remote or None,
    )
    run(settings, as_json)


def run(settings: Settings, as_json: bool = False) -> None:
    """Serve until a signal. Raises CountersignError, or what else made loading fail."""
    # Heavy imports wait until the options are known to be good.
    from models.registry import checkpoint_folder
    from service.app import create_app
    from service.logging import configure_logging
    from service.server import Server, server_config

    checkpoint = checkpoint_folder(settings.base_model, settings.checkpoint)
    failures: list[BaseException] = []

    def on_load_failure(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    with listen(settings.host, settings.port) as listening:
        created = first_key(settings.keys, checkpoint)
        announce(url(settings.host, listening.getsockname()[1]), created, settings.keys, as_json)
        configure_logging(settings.log_level, settings.log_format)
        app = create_app(settings, on_load_failure=on_load_failure)
        server = Server(server_config(app, drain_seconds=math.ceil(settings.drain_seconds)), app.state.runtime)
        with contextlib.suppress(KeyboardInterrupt):  # raised again by uvicorn after it has shut down in good order
            server.run(sockets=[listening])
    if failures:
        raise failures[0]


def announce(address: str, created: FirstKey | None, keys: Path, as_json: bool) -> None:
    """Tell the person, or the program, that started the service where it is, and of a key made for it."""
    if as_json:
        issuer = {"issuer_created": created and created.name, "issuer_checked": created and created.check.texts > 0}
        line = json.dumps({"url": address, **issuer})
    else:
        line = f"Open {address} in a browser. The model loads meanwhile; Ctrl+C stops the server."
        if created:
            about = f"Created the issuer key {created.name!r} in {keys} ({created.check.words})."
            line = f"{about} Back it up: without it, its marks cannot be read.\n{line}"
    print(line, flush=True)


class FirstKey(NamedTuple):
    name: str
    check: KeyCheck


def first_key(keys: Path, checkpoint: Path) -> FirstKey | None:
    """Create the key `default` in an empty ring; None where there are keys already. Raises KeyRingError and CheckpointError."""
    from service.convert import DEFAULT_ISSUER
    from watermark.calibration.key_check import KeyCheck
    from watermark.codebook.keys import KeyRing

    ring = KeyRing(keys)
    if ring.names():
        return None
    check = KeyCheck.of(checkpoint)  # the model is still to be loaded, and the address is announced before that
    check.create(ring, DEFAULT_ISSUER)
    return FirstKey(DEFAULT_ISSUER, check)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises InvalidInput: address unknown or port taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise InvalidInput(f"Cannot listen on {host} port {port}: {error.strerror}. Choose another with --host or --port.") from None
    return listening


def url(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    plain = host.strip("[]")
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plain, plain)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
