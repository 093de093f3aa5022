"""One ZooKeeper session that outlives its expiries, and the thread that keeps ephemeral nodes in it.

kazoo's callbacks run in its connection thread, which must never wait; they only wake the keeper, and the keeper does the
work. (kazoo's recipes work in the callbacks' threads or stop at the first LOST; both have wedged clients, case 48.)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.settings import ElectionSettings

log = logging.getLogger(__name__)

_RECONNECT = {"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": 1.0}
"""The connection itself is tried for ever, at least once a second: nobody waits for it, each request has its own limit.
(kazoo's default grows to a minute, so a leader could be missed for that long after ZooKeeper is back.)"""

_KEEPER_JOIN_S = 5.0


class Session:
    """A kazoo client, its connection state, and bounded requests. Created without a connection, thread or socket: a process
    may fork before the first use."""

    def __init__(self, settings: ElectionSettings) -> None:
        self._settings = settings
        self._client: KazooClient | None = None
        self._lock = threading.Lock()
        self._connected = threading.Event()
        self._listeners: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        """False from the moment the connection breaks (SUSPENDED), not only when the session is over (LOST)."""
        return self._connected.is_set()

    def on_state(self, listener: Callable[[], None]) -> None:
        """`listener` is called in kazoo's thread at each change of the connection; it must not wait."""
        self._listeners.append(listener)

    def open(self) -> None:
        """Connect; `Unavailable` after `connect_timeout_s`. A session that broke later reconnects by itself."""
        with self._lock:
            if self._client is None:
                self._client = self._made()  # before it starts: callbacks of any other client are ignored
                try:
                    self._client.start_async()
                except (
                    BaseException
                ):  # no thread was left: the next one who asks starts another, and does not wait for this one
                    self._client = None
                    raise
        if not self._connected.wait(self._settings.connect_timeout_s):
            raise self._unavailable(f"no session within {self._settings.connect_timeout_s:g} s")

    def close(self) -> None:
        """End the session: its ephemeral nodes go at once. At most about 10 s, when the server does not answer."""
        with self._lock:
            client, self._client = self._client, None
        self._connected.clear()
        if client is None:
            return
        try:
            client.stop()
        except (KazooException, KazooTimeoutError, OSError) as error:
            log.warning("the ZooKeeper session did not end cleanly and expires by itself: %s", error)
        finally:
            client.close()

    def session_id(self) -> int:
        """Of the current session; 0 while there is none."""
        client = self._client
        identity = client.client_id if client is not None else None
        return identity[0] if identity else 0

    def request(self, name: str, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Any:
        """One request of kazoo's client (`get_children`, `create`, …), answered in time or `Unavailable`.

        `NoNodeError` and `NodeExistsError` pass: they are answers.
        """
        client = self._client
        if client is None:
            raise self._unavailable("the session is closed")
        limit = self._settings.connect_timeout_s if timeout_s is None else timeout_s
        try:
            return getattr(client, f"{name}_async")(*args, **kwargs).get(timeout=limit)
        except (NoNodeError, NodeExistsError):
            raise
        except (KazooException, KazooTimeoutError, OSError) as error:
            raise self._unavailable(f"{name} failed: {type(error).__name__} {error}".rstrip()) from error

    def _made(self) -> KazooClient:
        client = KazooClient(
            hosts=self._settings.hosts,
            timeout=self._settings.session_timeout_s,
            handler=SequentialThreadingHandler(),
            connection_retry=_RECONNECT,
            command_retry={"max_tries": 1},
            logger=log,
        )
        client.add_listener(lambda state: self._state_changed(client, state))
        return client

    def _state_changed(self, client: KazooClient, state: str) -> None:
        if client is not self._client:
            return  # the last words of a client that was closed
        if state == KazooState.CONNECTED:
            self._connected.set()
        else:
            self._connected.clear()
        for listener in self._listeners:
            listener()

    def _unavailable(self, detail: str) -> Unavailable:
        return Unavailable("ZooKeeper", self._settings.connection, detail)


class Keeper:
    """A thread that does `work` when it is woken and every `every_s`; what `work` cannot do it tries again a moment later."""

    def __init__(self, name: str, work: Callable[[], None], every_s: float) -> None:
        self._work, self._every_s = work, every_s
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(_KEEPER_JOIN_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self._work()
            except Unavailable as error:
                log.info("%s; trying again", error)
            except Exception:
                log.exception("%s: trying again", self._thread.name)
            self._wake.wait(self._every_s)
