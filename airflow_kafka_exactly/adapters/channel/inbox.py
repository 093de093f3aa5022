"""Reads a stream of answers in a thread of its own, so that its reader can wait with a limit, or not at all."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Any

import grpc

_CAPACITY = 64
_PUT_S = 0.1
_JOIN_S = 1.0


class StreamEnded(Exception):
    """The stream is over; `error` says why (None: its sender was done)."""

    def __init__(self, error: grpc.RpcError | None) -> None:
        super().__init__(repr(error))
        self.error = error


class Inbox:
    """Holds at most 64 messages; then the sender is slowed down, nothing is lost."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._messages: queue.Queue[Any] = queue.Queue(_CAPACITY)
        self._closed = threading.Event()
        self._end: StreamEnded | None = None
        self._thread = threading.Thread(target=self._pump, name="kafka-exactly-inbox", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._end is None and not self._closed.is_set() and bool(self._call.is_active())

    def get(self, timeout_s: float) -> Any:
        """The next message, None when there is none in time; `StreamEnded` after the last one."""
        if self._end is not None:
            timeout_s = 0.0
        try:
            message = self._messages.get(timeout=timeout_s) if timeout_s > 0 else self._messages.get_nowait()
        except queue.Empty:
            if self._end is not None and self._messages.empty():
                raise self._end from None
            return None
        return self._raise_end(message)

    def end(self, timeout_s: float) -> grpc.RpcError | None:
        """Why the stream is over; waits a moment for the reason."""
        self._thread.join(timeout_s)
        return self._end.error if self._end is not None else None

    def close(self) -> None:
        self._closed.set()
        self._call.cancel()
        self._thread.join(_JOIN_S)

    def _raise_end(self, message: Any) -> Any:
        if isinstance(message, StreamEnded):
            raise message
        return message

    def _pump(self) -> None:
        end = StreamEnded(None)
        try:
            for message in self._call:
                if not self._put(message):
                    break
        except grpc.RpcError as error:
            end = StreamEnded(error)
        self._end = end
        with contextlib.suppress(queue.Full):
            self._messages.put_nowait(end)  # wakes a reader that waits

    def _put(self, message: Any) -> bool:
        while not self._closed.is_set():
            try:
                self._messages.put(message, timeout=_PUT_S)
            except queue.Full:
                continue
            return True
        return False
