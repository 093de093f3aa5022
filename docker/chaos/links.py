"""TCP proxies on loopback, each in front of one service for one kind of client, so that a fault can cut one link alone."""

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Self

from localstack.ports import LOOPBACK, free_port

_CHUNK_BYTES = 65_536
_CONNECT_SECONDS = 5.0
_STOP_SECONDS = 10.0


class Link:
    """Forwards to a loopback port. ``freeze``: bytes stop, connections stay (a lost network; what was frozen arrives late);
    ``cut``: connections end at once, also new ones; ``heal``: as before."""

    def __init__(self, name: str, target: int, *, host: str = LOOPBACK, port: int = 0) -> None:
        self.name, self.target, self.host, self.port = name, target, host, port or free_port()
        self.state = "whole"
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()

    async def serve(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.change("cut")

    def change(self, state: str) -> None:
        """``whole``, ``frozen`` or ``cut``; in the loop's thread."""
        self.state = state
        if state == "frozen":
            self._flowing.clear()
        else:
            self._flowing.set()
        if state == "cut":
            for transport in self._transports:
                transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await self._flowing.wait()  # a connection through a lost network is not made either
            if self.state == "cut":
                writer.transport.abort()
                return
            connecting = asyncio.open_connection(LOOPBACK, self.target)
            far_reader, far_writer = await asyncio.wait_for(connecting, _CONNECT_SECONDS)
            ends = {writer.transport, far_writer.transport}
            self._transports |= ends  # type: ignore[arg-type]
            try:
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
            finally:
                self._transports -= ends
                far_writer.close()
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


class Network:
    """All links of a run; one thread moves their bytes."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)

    def link(self, name: str, target: int, *, host: str = LOOPBACK, port: int = 0) -> Link:
        self.links.append(Link(name, target, host=host, port=port))
        return self.links[-1]

    def named(self, name: str) -> list[Link]:
        """One kind of client may need several links for one service (an ensemble)."""
        return [link for link in self.links if link.name == name]

    @property
    def names(self) -> list[str]:
        return sorted({link.name for link in self.links})

    def change(self, name: str, state: str) -> None:
        for link in self.named(name):
            self._loop.call_soon_threadsafe(link.change, state)

    def heal(self) -> None:
        for name in self.names:
            self.change(name, "whole")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def serve(self) -> None:
        """Listen at all links; call it when the last one is made."""
        for link in self.links:
            asyncio.run_coroutine_threadsafe(link.serve(), self._loop).result(_STOP_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        self._loop.close()

    async def _close(self) -> None:
        for link in self.links:
            link.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
