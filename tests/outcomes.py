"""What came of a group's records: its offset commits against the ledger (S2), effects where they outlive a process, and doubts
judged the way the evidence-check DAG does."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import psycopg
from conftest import unique
from psycopg import sql
from world import World, eventually

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.adapters.kafka import ClusterAdmin
from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.ports import KafkaAdmin
from airflow_kafka_exactly.protocol.claims import CheckReference
from airflow_kafka_exactly.protocol.record import Partition, Record
from airflow_kafka_exactly.runtime import evidence
from airflow_kafka_exactly.settings import ServiceSettings

Resolve = Callable[[CheckReference], Callable[..., Any]]


@contextlib.contextmanager
def new_database(postgres: str) -> Iterator[str]:
    """Conninfo of a database for a whole module, dropped after it."""
    name = sql.Identifier(unique("test"))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(name))
    yield psycopg.conninfo.make_conninfo(postgres, dbname=name.as_string().strip('"'))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


class EffectTable:
    """Effects as plain inserts without a unique key, so that a repeated one shows. `run` tells tests apart."""

    def __init__(self, conninfo: str, run: str) -> None:
        self._connection = psycopg.connect(conninfo, autocommit=True)
        self._lock, self._run = threading.Lock(), run
        self._execute(
            "create table if not exists public.effects (run text, topic text, number int, record_offset bigint)"
        )

    def __call__(self, record: Record) -> None:
        self._execute(
            "insert into public.effects values (%s, %s, %s, %s)",
            [self._run, record.topic, record.partition, record.offset],
        )

    def check(self, record: Record) -> bool:
        """Truthful, as the rules ask of a check (S1 c)."""
        found = self._execute(
            "select from public.effects where (run, topic, number, record_offset) = (%s, %s, %s, %s)",
            [self._run, record.topic, record.partition, record.offset],
        )
        return found.rowcount > 0

    def check_of(self, unit: bool) -> Callable[..., bool | None]:
        return self.check_all if unit else self.check

    def check_all(self, records: Sequence[Record]) -> bool | None:
        """Of a batch function: None when it is there in part."""
        answers = {self.check(record) for record in records}
        return answers.pop() if len(answers) == 1 else None

    @property
    def seen(self) -> Counter[tuple[int, int]]:
        rows = self._execute("select number, record_offset from public.effects where run = %s", [self._run])
        return Counter(rows.fetchall())  # type: ignore[arg-type]

    def close(self) -> None:
        self._connection.close()

    def _execute(self, statement: str, parameters: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        with self._lock:
            return self._connection.execute(statement.encode(), parameters)


@contextlib.contextmanager
def evidence_checks(services: ServiceSettings, resolve: Resolve) -> Iterator[None]:
    """Judge what is announced until the end, as runs of the evidence-check DAG would. A ledger that is away is waited for."""
    stop, failures = threading.Event(), list[BaseException]()

    def work() -> None:
        with wiring.shared_ledger(services.ledger) as ledgers:
            while not stop.wait(0.25):
                with contextlib.suppress(Unavailable):
                    doubts = ledgers.evidence.announce(500, 1.0)
                    evidence.examine(ledgers.evidence, [d.doubt_id for d in doubts], resolve)

    def guarded() -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 - raised where the test waits
            failures.append(failure)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        if failures:
            raise failures[0]


def committed(world: World, admin: KafkaAdmin | None = None) -> Mapping[Partition, int]:
    """What Kafka says now."""
    kafka = world.kafka_settings()
    admin = admin or ClusterAdmin(kafka.connection, kafka.config)
    return admin.committed(world.group, list(admin.end_offsets([world.topic])))


def deviations(world: World, offsets: Mapping[Partition, int] | None = None) -> Sequence[Mapping[str, Any]]:
    """`airflow kafka-exactly reconcile` (case 1), of what Kafka says or of `offsets`."""
    offsets = committed(world) if offsets is None else offsets
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        return ledgers.report.reconcile(world.group, offsets)


def unsettled(world: World) -> str:
    """What is still pending, in words; empty when each record is settled, committed, and nothing is open."""
    with (
        wiring.member_ports(world.services, world.kafka_settings(), guarded=False) as ports,
        wiring.shared_ledger(world.services.ledger) as ledgers,
    ):
        ends = {p: end for p, end in ports.admin.end_offsets([world.topic]).items() if end}
        offsets = ports.admin.committed(world.group, list(ends))
        frontiers = ports.ledger.frontiers(world.group, [world.topic])
        behind = [
            f"{p}: frontier {frontiers.get(p)}, committed {offsets.get(p)}, end {end}"
            for p, end in ends.items()
            if not frontiers.get(p) == offsets.get(p) == end
        ]
        doubts = ledgers.report.doubts(world.group, True)
        orphans = ledgers.report.orphans(world.group, True)
    behind += [
        f"doubt {d['doubt_id']} [{d['start']}, {d['stop']}): {d['kind']}, {d['state']}" for d in doubts
    ]
    behind += [f"orphan commit {o['orphan_id']} [{o['start']}, {o['stop']})" for o in orphans]
    return "; ".join(behind)


def await_settled(world: World, deadline_s: float = 60.0) -> None:
    """L1: when faults have stopped, everything is settled in bounded time."""
    pending = [""]

    def nothing() -> bool:
        pending[0] = unsettled(world)
        return not pending[0]

    try:
        eventually("everything is settled", nothing, deadline_s)
    except AssertionError as late:
        raise AssertionError(f"L1: {late}; pending: {pending[0]}") from None


class S2Watch:
    """Reads Kafka's committed offsets, and then what the ledger says of everything below them, over and over."""

    def __init__(self, world: World) -> None:
        self._world, self._stop = world, threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.looks, self.moves = 0, 0
        self.violations: list[str] = []
        self._before: Mapping[Partition, int] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self.violations, f"S2: {self.violations}"
        assert self.looks, "nobody has looked"

    def _work(self) -> None:
        kafka = self._world.kafka_settings()
        with wiring.member_ports(self._world.services, kafka, guarded=False) as ports:
            while not self._stop.wait(0.02):
                try:
                    self._look(ports.admin)
                except Unavailable:
                    continue
                except BaseException as failure:  # noqa: BLE001 - asserted at the end
                    self.violations.append(repr(failure))
                    return

    def _look(self, admin: KafkaAdmin) -> None:
        offsets = committed(self._world, admin)
        if not offsets:
            return
        found = [d for d in deviations(self._world, offsets) if not d["pending"]]
        self.violations += [f"committed {offsets}, but {d}" for d in found]
        went_back = [p for p, offset in offsets.items() if offset < self._before.get(p, 0)]
        self.violations += [f"the committed offset of {p} went back" for p in went_back]
        self.moves += offsets != self._before
        self.looks, self._before = self.looks + 1, offsets
