"""One replica: an engine of some of the roles in a process of its own, with its tickets as streams of what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from service.cluster.messages import Accepted, Done, Failed, News, Refused, Report, Times
from service.engine.protocol import Engine, PromptText, Ticket, Unavailable, VerificationRequest
from watermark.sampling.requests import GenerationRequest

TICK = 0.05


class Replica:
    """Ray Serve makes it, calls its methods from other processes, and replaces it when `check_health` raises or its process dies.

    A stream's first item is Accepted or Refused; then come lists of (place, news) until each place has had its Done or Failed. A
    stream that is cancelled frees its places.
    """

    async def __init__(self, make: Callable[[], Engine], _release: str) -> None:
        """Ready when the engine is. A replica of another release is another one for Ray, which then replaces this.

        Raises what makes loading fail, CountersignError or RemoteError.
        """
        self._engine = make()
        self._life = asyncio.create_task(self._engine.run())
        while self._engine.health().status == "loading":
            if self._life.done():
                self._life.result()
            await asyncio.sleep(TICK)

    async def check_health(self) -> None:
        if self._life.done():
            raise RuntimeError("The engine has ended; the log of this replica says why.")

    async def report(self) -> Report:
        return Report(self._engine.card, self._engine.health(), self._engine.stats())

    async def encode(self, prompt: PromptText, max_new_tokens: int, tag: str) -> Sequence[int] | Failed:
        try:
            return await self._engine.encode(prompt, max_new_tokens, tag=tag)
        except Exception as error:
            return Failed.by(error)

    async def generate(self, requests: Sequence[GenerationRequest], tag: str) -> AsyncGenerator[object, None]:
        async def follow(ticket: Ticket) -> AsyncIterator[News]:
            async for piece in self._engine.stream(ticket):
                yield piece
            yield Done(await self._engine.result(ticket), Times.of(ticket))

        try:
            tickets = await self._engine.submit(requests, tag=tag)
        except Unavailable as error:
            yield Refused(error)
            return
        async with contextlib.aclosing(self._tell(tickets, follow)) as told:
            async for news in told:
                yield news

    async def verify(self, request: VerificationRequest, tag: str) -> AsyncGenerator[object, None]:
        async def follow(ticket: Ticket) -> AsyncIterator[News]:
            yield Done(await self._engine.verdicts(ticket), Times.of(ticket))

        try:
            ticket = await self._engine.submit_verification(request, tag=tag)
        except Unavailable as error:
            yield Refused(error)
            return
        async with contextlib.aclosing(self._tell([ticket], follow)) as told:
            async for news in told:
                yield news

    async def _tell(self, tickets: Sequence[Ticket], follow: Callable[[Ticket], AsyncIterator[News]]) -> AsyncGenerator[object, None]:
        """What happened since the last item goes together: an item costs a message between processes, a piece of text is some bytes."""
        heard: asyncio.Queue[tuple[int, News]] = asyncio.Queue()

        async def listen(place: int) -> None:
            try:
                async for news in follow(tickets[place]):
                    heard.put_nowait((place, news))
            except Exception as error:
                heard.put_nowait((place, Failed.by(error)))

        listeners = [asyncio.ensure_future(listen(place)) for place in range(len(tickets))]
        try:
            yield Accepted()
            waiting = len(tickets)
            while waiting:
                told = [await heard.get()]
                while not heard.empty():
                    told.append(heard.get_nowait())
                waiting -= sum(isinstance(news, Done | Failed) for _, news in told)
                yield told
        finally:
            for listener in listeners:
                listener.cancel()
            self._engine.cancel(tickets)
