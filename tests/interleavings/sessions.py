"""One party's session with the real PostgreSQL: it can be stopped between any two statements of what it does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg

from airflow_kafka_exactly.adapters.postgres.evidence import PostgresEvidenceLedger
from airflow_kafka_exactly.adapters.postgres.leader import PostgresLeaderLedger
from airflow_kafka_exactly.adapters.postgres.member import PostgresMemberLedger
from airflow_kafka_exactly.adapters.postgres.pool import Connection, Database, T
from airflow_kafka_exactly.settings import LedgerSettings

NOWHERE, TRACE = "", "trace"


class SteppedDatabase(Database):
    """The pool of one session, with one connection. What one transaction does in one statement can be stopped before it
    commits, too; then that is done in a transaction block."""

    def __init__(self, settings: LedgerSettings, session: Session) -> None:
        self._session = session
        super().__init__(settings)

    @contextmanager
    def connection(self, *, for_effect: bool = False) -> Iterator[Connection]:
        with super().connection(for_effect=for_effect) as connection:
            self._session.use(connection)
            yield connection

    def run(self, work: Callable[[Connection], T]) -> T:
        self._session.passes("transaction")

        def stepped(connection: Connection) -> T:
            try:
                return blocked(connection)
            except psycopg.errors.DeadlockDetected:
                self._session.deadlocks += 1
                raise

        def blocked(connection: Connection) -> T:
            if not self._session.blocks:
                return work(connection)
            with connection.transaction():
                result = work(connection)
                self._session.passes("commit")
            return result

        return super().run(stepped)


class Session:
    """Where it stops: nowhere, or at the n-th pass of a stop of the functions, or at the n-th of the client's own."""

    def __init__(self, settings: LedgerSettings, key: int) -> None:
        self.key, self.pid = key, 0
        self.trace: list[tuple[str, int]] = []
        """What it passed, `function:stop` on its first, second, … connection, or `client:what`."""
        self.blocks = False
        self.deadlocks = 0
        self._server, self._connection, self._client, self._passed = NOWHERE, 1, 0, 0
        self._prepared: set[int] = set()
        self._used: list[int] = []
        self._go, self.changed = threading.Event(), threading.Event()
        self.stopped = False
        self._thread = ThreadPoolExecutor(1)
        self.database = SteppedDatabase(settings, self)
        self.member = PostgresMemberLedger(self.database)
        self.leader = PostgresLeaderLedger(self.database)
        self.evidence = PostgresEvidenceLedger(self.database)

    def start(
        self, work: Callable[[], Any], *, server: str = NOWHERE, connection: int = 1, client: int = 0
    ) -> Future[Any]:
        self.deadlocks, self.trace, self._passed = 0, [], 0
        self._server, self._connection, self._client = server, connection, client
        self.blocks = bool(client) or server == TRACE
        self._used.clear()
        self._go.clear()
        self.changed.clear()
        self.stopped = False
        future = self._thread.submit(work)
        future.add_done_callback(lambda _: self.changed.set())
        return future

    def close(self) -> None:
        self._thread.shutdown()
        self.database.close()

    # -- stops ---------------------------------------------------------------------------------------------------------

    def use(self, connection: Connection) -> None:
        """Once per operation and connection: tells the functions where to stop. (Effects have connections of their own.)"""
        if id(connection) not in self._prepared:
            self._prepared.add(id(connection))
            connection.add_notice_handler(self._noticed)
        if id(connection) in self._used:
            return
        self._used.append(id(connection))
        self.pid = connection.info.backend_pid
        here = self._server == TRACE or self._connection == len(self._used)
        connection.execute(
            "select set_config('interleaving.at', %s, false), set_config('interleaving.passed', '0', false),"
            " set_config('interleaving.key', %s, false), set_config('deadlock_timeout', '50ms', false),"
            " set_config('idle_in_transaction_session_timeout', '0', false)",
            [self._server if here else NOWHERE, str(self.key)],
        )

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        what, _, where = str(notice.message_primary).partition(" ")
        if what == "passes":
            self.trace.append((where, len(self._used)))
        elif what == "stops":
            self._stop()

    def passes(self, what: str) -> None:
        """A stop of the client's own: between transactions, before a commit, in the middle of an effect."""
        self._passed += 1
        if self._server == TRACE:
            self.trace.append((f"client:{what}", 0))
        elif self._passed == self._client:
            self._stop()
            self._go.wait(30)

    @property
    def has_committed(self) -> bool:
        """What does not stop passes nothing but the beginning of its transactions."""
        return self._passed > 1

    def _stop(self) -> None:
        self.stopped = True
        self.changed.set()

    def release(self) -> bool:
        """True: it waits for its advisory lock, which the harness must free."""
        self.stopped = False
        self.changed.clear()
        self._go.set()
        return not self._client
