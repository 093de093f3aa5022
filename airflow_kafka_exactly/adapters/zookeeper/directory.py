"""Where everybody finds the leader, and who is alive."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from urllib.parse import quote, unquote

from kazoo.exceptions import NodeExistsError, NoNodeError

from airflow_kafka_exactly.adapters.zookeeper.election import contenders_path, in_order
from airflow_kafka_exactly.adapters.zookeeper.session import Keeper, Session
from airflow_kafka_exactly.settings import ElectionSettings

_LOOKS = 3
"""A leader that goes between two requests is looked for again, so many times."""
_KEEP_EVERY_S = 1.0


class ZooKeeperDirectory:
    """A `Directory` port. It connects at its first use and may be used by several threads."""

    def __init__(self, settings: ElectionSettings) -> None:
        root = settings.root.rstrip("/")
        self._contenders, self._members = contenders_path(root), f"{root}/members"
        self._session = Session(settings)
        self._session.on_state(self._disturbed)
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._written_in = 0  # the session that holds our member nodes
        self._keeper: Keeper | None = None

    def leader_address(self) -> str | None:
        """None while nobody contends. `Unavailable` when ZooKeeper does not answer."""
        for _ in range(_LOOKS):
            names = in_order(self._children(self._contenders))
            if not names:
                return None
            address = self._address(names[0])
            if address is not None:
                return address
        return None

    def contenders(self) -> Sequence[str]:
        addresses = (self._address(name) for name in in_order(self._children(self._contenders)))
        return [address for address in addresses if address is not None]

    def members(self) -> Sequence[str]:
        return sorted(unquote(name) for name in self._children(self._members))

    def enter(self, name: str) -> None:
        """Write the node, again after each session loss. A node that an earlier process left behind is replaced."""
        self._session.open()
        self._session.request("ensure_path", self._members)
        with self._lock:
            self._write(name)
            self._names.add(name)
            self._written_in = self._written_in or self._session.session_id()
            if self._keeper is None:
                self._keeper = Keeper("kafka-exactly-directory", self._keep, _KEEP_EVERY_S)
                self._keeper.start()

    def leave(self, name: str) -> None:
        """Remove the node, unless another process holds it by now."""
        with self._lock:
            if name not in self._names:
                return
            self._names.discard(name)
            self._session.open()
            stat = self._session.request("exists", self._member(name))
            if stat is not None and stat.ephemeralOwner == self._session.session_id():
                self._delete(self._member(name))

    def close(self) -> None:
        """End the session, and the member nodes with it."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()
        self._names.clear()
        self._session.close()

    def _member(self, name: str) -> str:
        return f"{self._members}/{quote(name, safe='')}"

    def _children(self, path: str) -> list[str]:
        self._session.open()
        try:
            return list(self._session.request("get_children", path))
        except NoNodeError:
            return []

    def _address(self, node: str) -> str | None:
        try:
            data, _ = self._session.request("get", f"{self._contenders}/{node}")
        except NoNodeError:
            return None
        return bytes(data).decode()

    def _write(self, name: str) -> None:
        data = f"{socket.gethostname()}:{os.getpid()}".encode()
        for _ in range(_LOOKS):
            try:
                self._session.request("create", self._member(name), data, ephemeral=True)
            except NodeExistsError:
                stat = self._session.request("exists", self._member(name))
                if stat is not None and stat.ephemeralOwner == self._session.session_id():
                    return
                self._delete(self._member(name))
            else:
                return

    def _delete(self, path: str) -> None:
        try:
            self._session.request("delete", path)
        except NoNodeError:
            return

    def _disturbed(self) -> None:
        if (keeper := self._keeper) is not None:
            keeper.wake()

    def _keep(self) -> None:
        """Write the nodes again in a new session. Nodes are not looked after otherwise: two processes with one slot (a
        take-over) would take it from each other for ever."""
        with self._lock:
            session = self._session.session_id()
            if not (self._names and self._session.connected and session != self._written_in):
                return
            self._session.request("ensure_path", self._members)
            for name in sorted(self._names):
                self._write(name)
            self._written_in = session
