"""A TCP proxy that does to connections what networks do: cuts, forgets, delays and loses them, while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass


class _Way:
    """One direction, of all connections, and what is wrong with it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.heal()

    def heal(self) -> None:
        """Bytes pass, at once."""
        self.delay_s, self.bytes_per_s = 0.0, math.inf
        self.open.set()


@dataclass(eq=False)
class _Connection:
    """A client's connection and the one made for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    forgotten: bool = False

    def abort(self) -> None:
        """Reset both."""
        for writer in (self.client, self.server):
            _reset(writer)


class FaultProxy:
    """Forwards connections to one address; every method may be called from any thread.

    Args:
        loop: Where it runs.
        upstream: HOST:PORT of whom it stands for; need not be there yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: str) -> None:
        self._loop = loop
        host, _, port = upstream.rpartition(":")
        self._upstream = host, int(port)
        self._connections: set[_Connection] = set()
        self._up, self._down = _Way(), _Way()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.address = asyncio.run_coroutine_threadsafe(self._listen(), loop).result()

    def cut(self) -> None:
        """Reset all connections; new ones work."""

        def abort() -> None:
            for connection in self._connections:
                connection.abort()

        self._call(abort)

    def half_open(self) -> None:
        """Swallow whatever comes on the connections there are, and never end them; new ones work."""

        def forget() -> None:
            for connection in self._connections:
                connection.forgotten = True

        self._call(forget)

    def black_hole(self, *, up: bool = True, down: bool = True) -> None:
        """Let nothing through, ends of connections neither: to the upstream, from it, or both ways. New ones too.

        What was sent meanwhile arrives when this is healed, as TCP sends it again.
        """

        def shut() -> None:
            if up:
                self._up.open.clear()
            if down:
                self._down.open.clear()

        self._call(shut)

    def slow(self, delay_s: float, bytes_per_s: float) -> None:
        """Delay every piece, and let so many bytes through, either way."""

        def set_both() -> None:
            for way in (self._up, self._down):
                way.delay_s, way.bytes_per_s = delay_s, bytes_per_s

        self._call(set_both)

    def heal(self) -> None:
        """Everything passes again; what was forgotten is reset, as by a host that knows nothing of it."""

        def both() -> None:
            self._up.heal()
            self._down.heal()
            for connection in self._connections:
                if connection.forgotten:
                    connection.abort()

        self._call(both)

    def close(self) -> None:
        """Stop listening, end all connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    def _call(self, change: Callable[[], object]) -> None:
        async def call() -> None:
            change()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    async def _listen(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.abort()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection(*self._upstream)
        except OSError:  # nobody there: as if there were no proxy
            _reset(writer)
            return
        connection = _Connection(writer, forth)
        self._connections.add(connection)
        pumps = [
            self._loop.create_task(self._pump(connection, reader, forth, self._up)),
            self._loop.create_task(self._pump(connection, back, writer, self._down)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._connections.discard(connection)
            self._pumps.difference_update(pumps)
            connection.abort()

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: _Way
    ) -> None:
        """Carry bytes one way until their end, which is carried too."""
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await way.open.wait()
                if connection.forgotten:
                    continue
                if pause_s := way.delay_s + len(data) / way.bytes_per_s:
                    await asyncio.sleep(pause_s)
                    await way.open.wait()
                writer.write(data)
                await writer.drain()
        await way.open.wait()
        if not connection.forgotten:
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as one that its peer knows nothing of (RST), not as one that is over (FIN)."""
    if not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def proxies() -> Iterator[Callable[[str], FaultProxy]]:
    """Make proxies, which run in one thread of their own until the block is left."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxies", daemon=True)
    thread.start()
    made: list[FaultProxy] = []

    def make(upstream: str) -> FaultProxy:
        made.append(FaultProxy(loop, upstream))
        return made[-1]

    try:
        yield make
    finally:
        for proxy in made:
            proxy.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
