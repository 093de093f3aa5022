"""Runs operations against each other on the real PostgreSQL, each but the last stopped where it is told to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from interleavings.build import Built, functions, instrumented
from interleavings.in_memory import Answers, refusal
from interleavings.operations import Operation, Party
from interleavings.outcome import READ, Outcome, of_rows
from interleavings.scenes import SCENES, Scene, build
from interleavings.sessions import TRACE, Session
from ledger_stage import PostgresStage

from airflow_kafka_exactly.adapters.postgres.schema import migrate
from airflow_kafka_exactly.errors import KafkaExactlyError
from airflow_kafka_exactly.settings import LedgerSettings

PATIENCE_S = 30.0
WAITS = """
select pg_blocking_pids(pid) && %s::int[],
       exists (select from pg_locks l where l.pid = p.pid and l.granted and l.locktype = 'advisory'
                  and l.classid::bigint << 32 | l.objid::bigint = kafka_exactly.epoch_key())
  from (select %s::integer as pid) as p
"""
"""Whether that process waits for one of these, and whether it holds the epoch."""


@dataclass(frozen=True, slots=True)
class Stop:
    """`server`: the n-th pass of any stop of the functions; `client`: the n-th of the client's own; neither: not at all."""

    where: str = ""
    server: int = 0
    connection: int = 1
    """Of the operation: its first, second, …"""
    client: int = 0
    transaction: tuple[int, int] = (0, 0)
    """The transaction that is open there: equal for all stops within the same one."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one interleaving."""

    answers: Answers
    outcome: Outcome
    waited: tuple[bool, ...]
    deadlocks: int
    starving: bool
    """Somebody waited while it held the epoch, and so did whoever takes office."""
    happened: frozenset[tuple[int, int]]
    barred: bool = False
    """Of two, the second waits for the first, has committed nothing before, and holds nothing that the first wants."""


class Harness:
    """One database of its own, with the test build of the functions."""

    def __init__(self, conninfo: str, scenes: Sequence[str] = ()) -> None:
        self.settings = LedgerSettings(
            connection="ledger", conninfo=conninfo, pool_max=2, lock_timeout_s=20.0
        )
        migrate(self.settings)
        self._control = psycopg.connect(conninfo, autocommit=True)
        self._control.execute("set check_function_bodies = off")
        for setting in (
            "synchronous_commit",
            "jit",
        ):  # for sessions to come: nothing here is worth keeping, or planning long
            self._control.execute(f"alter database {self._control.info.dbname} set {setting} = off".encode())
        self._control.execute(Path(__file__).with_name("stops.sql").read_bytes())
        self._control.execute(f"create function interleaving.outcome() returns jsonb {READ}".encode())
        self._restorer = psycopg.connect(conninfo, autocommit=True)
        self._restorer.execute("set session_replication_role = replica")
        self.scenes = {name: self._keep(name) for name in scenes or SCENES}
        self.built: dict[str, Built] = {}
        self.install([])  # last: a stage migrates, which puts the shipped functions back
        self._sessions = [Session(self.settings, key) for key in (1, 2, 3, 4)]
        self._free = [s.key for s in self._sessions]
        self._starving = False
        self.passed: dict[tuple[str, str], set[str]] = {}
        """Which functions an operation goes through in a scene; known once it was traced."""

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        self._control.close()
        self._restorer.close()

    def install(self, faults: Sequence[str]) -> None:
        """The shipped functions, but for those whose text is given."""
        wanted = {
            b.name: b
            for b in (instrumented(text) for text in (*(f.text for f in functions().values()), *faults))
        }
        for built in (b for b in wanted.values() if self.built.get(b.name) != b):
            self._control.execute(built.sql.encode())
        self.built = wanted

    def _keep(self, name: str) -> Scene:
        stage = PostgresStage(self.settings.conninfo)
        stage.empty()
        try:
            scene = build(name, stage)
        finally:
            stage.ledger.close()
        self._control.execute("select interleaving.keep(%s)", [name])
        return scene

    # -- running -------------------------------------------------------------------------------------------------------

    def trace(self, scene: str, operation: Operation) -> list[Stop]:
        """Where `operation`, alone, can be stopped in that scene. Of stops between which nothing happens only the last,
        and of one that a loop passes again and again the first and the last pass."""
        session = self._sessions[0]
        self._restore(scene)
        self._begin(0, operation, self.scenes[scene], set(), None).exception()
        self.passed[scene, operation.name] = {where.partition(":")[0] for where, _ in session.trace}
        stops, server, client, begun, used = [], Counter[int](), 0, 0, 0
        for where, connection in session.trace:
            name, _, number = where.partition(":")
            used = max(used, connection)
            if name == "client":
                client += 1
                begun += number == "transaction"
                if number != "transaction" or client > 1:
                    stops.append(Stop(where, client=client, transaction=(begun, used)))
            else:
                server[connection] += 1
                if int(number) not in self.built[name].idle:
                    stops.append(Stop(where, server[connection], connection, transaction=(begun, used)))
        return _first_and_last(stops)

    def run(
        self, scene: str, operations: Sequence[Operation], stops: Sequence[Stop], order: Sequence[int] = ()
    ) -> Run:
        """The i-th operation starts and goes on to its stop, to its end, or until it waits for another; then the next. Then
        they are released, the last first unless `order` says otherwise."""
        self._restore(scene)
        begun, happened = self.scenes[scene], set(self.scenes[scene].happened)
        futures, waited, self._starving = [], [], False
        for i, (operation, stop) in enumerate(zip(operations, stops, strict=True)):
            futures.append(self._begin(i, operation, begun, happened, stop))
            waited.append(self._settled(i, futures[i]))
        barred = waited == [False, True] and not self._sessions[1].has_committed
        for i in (*(order or reversed(range(len(futures)))), *range(len(futures))):
            # Once more than asked: who waited comes to its own stop only now.
            if self._sessions[i].stopped:
                self._release(i)
            for j, other in enumerate(futures):
                self._settled(j, other)
        answers = tuple(_answer(f) for f in futures)
        deadlocks = sum(s.deadlocks for s in self._sessions[: len(futures)])
        barred = barred and not deadlocks
        return Run(
            answers, self._outcome(), tuple(waited), deadlocks, self._starving, frozenset(happened), barred
        )

    def _begin(
        self, i: int, operation: Operation, scene: Scene, happened: set[tuple[int, int]], stop: Stop | None
    ) -> Future[Any]:
        """`stop` None: it tells what it passes."""
        session = self._sessions[i]
        party = Party(session, scene, happened, session.passes)

        def work() -> Any:
            steps = operation.steps(party)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return end.value

        if stop is None:
            return session.start(work, server=TRACE)
        server = str(stop.server) if stop.server else ""
        return session.start(work, server=server, connection=stop.connection, client=stop.client)

    def _settled(self, i: int, future: Future[Any]) -> bool:
        """Until it is at its stop, at its end, or waits for a lock that another session holds; then true."""
        session, since, pause = self._sessions[i], time.monotonic(), 0.002
        while True:
            session.changed.wait(pause)
            pause = min(1.5 * pause, 0.02)  # a machine that has no time is not asked for more of it
            if session.stopped or future.done():
                return False
            if self._waits(session):
                return True
            if time.monotonic() - since > PATIENCE_S:
                raise TimeoutError(
                    f"{session.trace[-1:]}: neither at a stop nor at its end, and waits for nobody"
                )

    def _waits(self, session: Session) -> bool:
        pids = [s.pid for s in self._sessions if s is not session and s.pid]
        found = self._control.execute(WAITS, [pids, session.pid]).fetchone()
        if not found or not found[0]:
            return False
        self._starving |= found[1]
        return True

    def _release(self, i: int) -> None:
        session = self._sessions[i]
        if session.release():
            self._control.execute("select pg_advisory_unlock(%s)", [session.key])
            self._free.append(session.key)

    def _restore(self, scene: str) -> None:
        self._restorer.execute(f'select "{scene}".restore()'.encode())
        self._control.execute("select pg_advisory_lock(k) from unnest(%s::bigint[]) k", [self._free])
        self._free = []

    def _outcome(self) -> Outcome:
        row = self._control.execute("select interleaving.outcome()").fetchone()
        assert row is not None
        return of_rows(row[0])


def _first_and_last(stops: list[Stop]) -> list[Stop]:
    passes: dict[str, list[Stop]] = {}
    for stop in stops:
        passes.setdefault(stop.where, []).append(stop)
    return [stop for stop in stops if stop in (passes[stop.where][0], passes[stop.where][-1])]


def _answer(future: Future[Any]) -> Any:
    try:
        return future.result(PATIENCE_S)
    except KafkaExactlyError as exc:
        return refusal(exc)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is what came of it
        return f"failed: {type(exc).__name__}: {exc}"
