"""Messages between the service and its worker processes: pickles with their length in front, over a pair of private sockets.

Pickle is safe here and only here: both ends are this program, and no address leads to the sockets.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import Any

HEADER = struct.Struct("!I")


def pack(message: object) -> bytes:
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(content)) + content


def send(connection: socket.socket, message: object) -> None:
    connection.sendall(pack(message))


def receive(connection: socket.socket) -> Any:
    """Waits. Raises EOFError when the other end is gone."""
    (length,) = HEADER.unpack(_exactly(connection, HEADER.size))
    return pickle.loads(_exactly(connection, length))


async def receive_async(reader: asyncio.StreamReader) -> Any:
    """Raises EOFError when the other end is gone."""
    try:
        (length,) = HEADER.unpack(await reader.readexactly(HEADER.size))
        return pickle.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, OSError):
        raise EOFError from None


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        try:
            part = connection.recv(min(count - len(content), 1 << 20))
        except OSError:
            part = b""
        if not part:
            raise EOFError
        content += part
    return bytes(content)
