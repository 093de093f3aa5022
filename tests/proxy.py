"""A small TCP proxy on loopback: lets a test cut, freeze and heal a link between a client and a real service."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from types import TracebackType
from typing import Self

_POLL_S = 0.05
_CHUNK = 65536


class Proxy:
    """Forwards to `target` ("host:port") from `address`.

    `freeze()`: bytes stop in both directions, connections stay open (a dead peer, a lost network); `cut()`: connections are
    reset and new ones are refused at once; `heal()`: forwards again, what was frozen is delivered late. `freeze_after(n)`: as
    `freeze()`, after `n` more bytes of the client's; they may end in the middle of what it says. `said`: all of the client's.
    """

    def __init__(self, target: str) -> None:
        host, port = target.split(",", maxsplit=1)[0].rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL_S)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._flowing, self._open, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._flowing.set()
        self._open.set()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.said, self._freeze_at, self.frozen = 0, math.inf, threading.Event()

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def freeze(self) -> None:
        self._flowing.clear()

    def freeze_after(self, bytes_: int) -> None:
        self.frozen.clear()
        self._freeze_at = self.said + bytes_

    def cut(self) -> None:
        self._open.clear()
        with self._lock:
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        self._freeze_at = math.inf
        self._open.set()
        self._flowing.set()

    def _spawn(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            if not self._open.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._sockets |= {near, far}
            self._spawn(self._pump, near, far, True)
            self._spawn(self._pump, far, near, False)

    def _pump(self, source: socket.socket, sink: socket.socket, of_client: bool) -> None:
        source.settimeout(_POLL_S)
        try:
            while not self._stop.is_set() and self._open.is_set():
                try:
                    data = source.recv(_CHUNK)
                except TimeoutError:
                    continue
                if of_client:
                    data = self._up_to_freeze(data, sink)
                while not (self._flowing.wait(_POLL_S) or self._stop.is_set() or not self._open.is_set()):
                    pass
                if not data or not self._open.is_set():
                    break
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._sockets -= {source}
            source.close()

    def _up_to_freeze(self, data: bytes, sink: socket.socket) -> bytes:
        """Sends what comes before the freeze; returns the rest."""
        before = min(len(data), self._freeze_at - self.said)
        self.said += len(data)
        if before == len(data):
            return data
        sink.sendall(data[: int(before)])
        self.freeze()
        self.frozen.set()
        return data[int(before) :]
