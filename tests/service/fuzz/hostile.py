"""A process that sends hostile requests: `python -m tests.service.fuzz.hostile PORT SEED COUNT`. Prints what came back, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import sys
from collections import Counter
from random import Random

from tests.service.fuzz.requests import KINDS, Hostile

AT_ONCE = 24
PATIENCE = 15.0
"""Seconds to wait for an answer."""
SLOW_PAUSE = 0.02
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")


async def send(port: int, hostile: Hostile) -> list[str]:
    """The statuses that came back; what could not be had is told in words."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE):
            for place, part in enumerate(hostile.parts):
                if place:
                    await asyncio.sleep(SLOW_PAUSE)
                writer.write(part)
                await writer.drain()
            if hostile.ending == "reset":
                return []
            if hostile.ending == "read_some_and_reset":
                return [status.decode() for status in STATUS_LINE.findall(await reader.read(400))]
            if hostile.ending == "half_close":
                writer.write_eof()
            content = await (reader.read() if hostile.ending == "half_close" else one_answer(reader))
            return [status.decode() for status in STATUS_LINE.findall(content)]
    except ConnectionError:
        return []  # the server may hang up on such a client
    except TimeoutError:
        return ["no answer"]
    finally:
        if "reset" in hostile.ending:  # with unsent or unread bytes: the other side sees its connection broken
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def one_answer(reader: asyncio.StreamReader) -> bytes:
    """Its head; the connection stays open after it."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial


async def main(port: int, seed: int, count: int) -> dict[str, dict[str, int]]:
    random = Random(seed)
    todo = [random.choice(KINDS)(random) for _ in range(count)]
    seen: dict[str, Counter[str]] = {}

    async def work() -> None:
        while todo:
            hostile = todo.pop()
            counts = seen.setdefault(hostile.kind, Counter())
            counts["sent"] += 1
            counts.update(await send(port, hostile))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return {kind: dict(counts) for kind, counts in sorted(seen.items())}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*map(int, sys.argv[1:])))))
