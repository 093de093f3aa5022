"""One contender for leadership, with a loop of its own (kazoo's `Election.run` does not stop a deposed leader).

**Trust.** A leader must stop believing in itself before its session can expire, because then the next one leads. A session
lives at least `session_timeout_s` from the moment a quorum has accepted a write of it. So the proof of leadership is a *write*
of our own node, trusted for `trust_s` (less than the session) from when it was *sent*. A plain read proves less: a server
that is cut off from its quorum goes on answering reads after the others have expired the session. (The idea of counting from
the sending is River's, see its leadership notes.)

**Entering.** The answer of a create may be lost. Each contender's nodes carry its uuid, so the next look finds what the
lost answer had made; it is ours only when the current session owns it (an expired session's node is removed instead).
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from kazoo.exceptions import NoNodeError

from airflow_kafka_exactly.adapters.zookeeper.session import Keeper, Session
from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.settings import ElectionSettings

log = logging.getLogger(__name__)

_SEQUENCE_DIGITS = 10
_NEVER = float("-inf")


def boottime() -> float:
    """Seconds that go on while the machine sleeps: a leader that was asleep must not trust itself."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def contenders_path(root: str) -> str:
    return f"{root.rstrip('/')}/contenders"


def in_order(names: list[str]) -> list[str]:
    """Contenders' node names, the leader's first: by the sequence number that ZooKeeper put at the end."""
    return sorted((n for n in names if n[-_SEQUENCE_DIGITS:].isdigit()), key=lambda n: n[-_SEQUENCE_DIGITS:])


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the last look at ZooKeeper said. It holds only while the connection is the one it was seen through."""

    connection: int = -1
    node: str | None = None
    first: bool = False
    proven_at: float = _NEVER
    """When the last accepted write of `node` was sent."""


class ZooKeeperElection:
    """An `Election` port. `now` is a clock in seconds, CLOCK_BOOTTIME unless a test brings its own."""

    def __init__(self, settings: ElectionSettings, now: Callable[[], float] = boottime) -> None:
        self._settings, self._now = settings, now
        self._path = contenders_path(settings.root)
        self._prefix = f"c-{uuid.uuid4().hex}-"
        self._session = Session(settings)
        self._session.on_state(self._disturbed)
        self._keeper: Keeper | None = None
        self._on_change: Callable[[], None] = lambda: None
        self._address = b""
        self._connection = 0  # counts breaks and returns; written by kazoo's thread alone
        self._standing = _Standing()
        self._update, self._proof = threading.Lock(), threading.Lock()
        self._told: str | None = None  # the node as which we last said that we are the first

    def contend(self, address: str, on_change: Callable[[], None]) -> None:
        """Enter the election. `Unavailable` when ZooKeeper does not answer within `connect_timeout_s`; then nothing is left
        behind and `contend` may be called again. Once entered, the contender enters again by itself after each expiry.
        `on_change` is called, in a thread of this object, whenever `leads` may have another answer than before,
        also when it was lost and regained so quickly that nobody saw it."""
        assert self._keeper is None, "a contender enters once"
        self._address, self._on_change = address.encode(), on_change
        try:
            self._session.open()
            self._session.request("ensure_path", self._path)
            self._look()
        except Unavailable:
            self._session.close()
            raise
        self._keeper = Keeper("kafka-exactly-election", self._keep, self._settings.trust_s / 4)
        self._keeper.start()

    def leads(self) -> bool:
        """See `Election.leads`. Waits only when the last half of the trust window has begun, and never longer than it."""
        if not self._first():
            return False
        age = self._now() - self._standing.proven_at
        if age >= self._settings.trust_s / 2:
            self._prove_one_at_a_time(blocking=age >= self._settings.trust_s)
        return self._first() and self._now() - self._standing.proven_at < self._settings.trust_s

    def resign(self) -> None:
        """See `Election.resign`. A no-op for one that has not entered. `on_change` is not called."""
        keeper, self._keeper = self._keeper, None
        standing = self._stand(_Standing())
        if keeper is not None:
            keeper.stop()
        if standing.node is not None and self._session.connected:
            self._remove(standing.node)  # the session's end does it too, but only once that is answered
        self._told = None
        self._session.close()

    # -- in the keeper's thread ----------------------------------------------------------------------------------------

    def _keep(self) -> None:
        if self._session.connected and self._keeper is not None:
            try:
                self._look()
            except NoNodeError:
                # Somebody removed the whole path; the next turn enters anew.
                self._session.request("ensure_path", self._path)
            if self._first() and self._now() - self._standing.proven_at >= self._settings.trust_s / 2:
                self._prove_one_at_a_time(blocking=True)
        self._tell()

    def _look(self) -> None:
        """Read who contends, with a watch; enter if we do not."""
        connection = self._connection
        names, mine = self._read()
        if mine is None:
            self._stand(_Standing())
            self._session.request(
                "create", f"{self._path}/{self._prefix}", self._address, ephemeral=True, sequence=True
            )
            names, mine = self._read()
        with self._update:
            seen = replace(
                self._standing, connection=connection, node=mine, first=bool(mine) and names[0] == mine
            )
            same = (seen.connection, seen.node) == (self._standing.connection, self._standing.node)
            self._standing = seen if same else replace(seen, proven_at=_NEVER)

    def _read(self) -> tuple[list[str], str | None]:
        """The contenders in order, and which of them is ours: the lowest of our nodes that the current session owns. Others
        of ours (an expired session's, a create that was applied twice) are removed."""
        names = in_order(self._session.request("get_children", self._path, watch=self._watched))
        mine = None
        for name in [n for n in names if n.startswith(self._prefix)]:
            stat = self._session.request("exists", f"{self._path}/{name}")
            if stat is not None and mine is None and stat.ephemeralOwner == self._session.session_id():
                mine = name
            else:
                self._remove(name)
                names.remove(name)
        return names, mine

    def _remove(self, name: str) -> None:
        try:
            self._session.request("delete", f"{self._path}/{name}")
        except NoNodeError:
            pass
        except Unavailable as error:
            log.info("a contender's node goes with its session: %s", error)

    def _tell(self) -> None:
        node = self._standing.node if self._first() else None
        if node == self._told:
            return
        self._told = node
        try:
            self._on_change()
        except Exception:
            log.exception("a listener of the election failed")

    # -- in kazoo's threads, which must not wait -----------------------------------------------------------------------

    def _watched(self, _event: object) -> None:
        if (keeper := self._keeper) is not None:
            keeper.wake()

    def _disturbed(self) -> None:
        self._connection += 1
        self._watched(None)

    # -- standing and proof --------------------------------------------------------------------------------------------

    def _stand(self, standing: _Standing) -> _Standing:
        with self._update:
            before, self._standing = self._standing, standing
        return before

    def _first(self) -> bool:
        standing = self._standing
        return standing.first and standing.connection == self._connection and self._session.connected

    def _prove_one_at_a_time(self, *, blocking: bool) -> None:
        """With a part of the window left, one thread proves while the others go on; with none, all of them wait."""
        if not self._proof.acquire(blocking, self._settings.trust_s / 2 if blocking else -1):
            return
        try:
            if self._now() - self._standing.proven_at >= self._settings.trust_s / 2:
                self._prove()
        finally:
            self._proof.release()

    def _prove(self) -> None:
        standing, sent = self._standing, self._now()
        if standing.node is None:
            return
        try:
            self._session.request(
                "set", f"{self._path}/{standing.node}", self._address, timeout_s=self._settings.trust_s / 2
            )
        except NoNodeError:
            self._stand(_Standing())
            self._watched(None)
        except Unavailable as error:
            log.info("leadership is not proven: %s", error)
        else:
            with self._update:
                if (self._standing.connection, self._standing.node) == (standing.connection, standing.node):
                    self._standing = replace(self._standing, proven_at=sent)
