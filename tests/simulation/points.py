"""Where processes meet the world. Each call of a port is a scheduling point and a fault point."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from simulation.faults import Fate, Faults
from simulation.kernel import Kernel, Process
from simulation.words import WORDS

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol.claims import CommitCode

SERVICE = {"ledger": "PostgreSQL", "kafka": "Kafka", "zookeeper": "ZooKeeper"}
CLAIMING = ("ledger.claim", "ledger.claim_released")
LATE_S = {"ledger.decide": 20.0}
"""How late, at most. A verdict may wait in a cleared and rerun task until its doubt is another one."""
Seen = Callable[[Process, str, tuple[Any, ...], Any], None]
"""Told of what was executed: by whom, what, with what arguments, with what result."""


class Points:
    """The calls of all processes."""

    def __init__(self, kernel: Kernel, faults: Faults, trace: Callable[[str, str], None]) -> None:
        self.kernel, self.faults, self.trace = kernel, faults, trace
        self.crash: Callable[[Process, str], None] = lambda *_: None
        self.before: Seen = lambda *_: None
        self.after: Seen = lambda *_: None
        self._claimed: dict[Process, tuple[str, Callable[[], Any]]] = {}
        """What each asked last that may grant something."""

    def reach(self, process: Process, service: str, what: str, call: Callable[[], Any]) -> Any:
        """Ask a service, as a fate wants it."""
        fate = self.faults.fate(process, what)
        if not self.faults.connected(process.name, service):
            fate = Fate.LOST
        if what in CLAIMING:
            self._claimed[process] = (what, call)
        if fate is Fate.NONE:
            return self._well(call)
        return self._ill(process, service, what, call, fate)

    def _well(self, call: Callable[[], Any]) -> Any:
        chance = self.kernel.chance
        self.kernel.park(0.001 + 0.02 * chance.random() ** 3)
        result = call()
        if chance.random() < 0.4:
            self.kernel.park(0.02 * chance.random())
        return result

    def say(self, process: Process, what: str, args: tuple[Any, ...], result: Any) -> None:
        words = WORDS.get(what)
        said = words(args, result) if words is not None else ""
        self.trace(process.name, f"{what}: {said}" if said else what)

    def _ill(self, process: Process, service: str, what: str, call: Callable[[], Any], fate: Fate) -> Any:
        self.kernel.park(0.01 * self.kernel.chance.random())
        self.trace(process.name, f"{what}: {fate.name.lower()}")
        repeatable = service == "ledger" or what == "kafka.commit"
        if what == "ledger.give_back" and process in self._claimed:
            # A copy of the claim comes out of the network after it was given back: rare by itself, and nobody would hear of it.
            self.kernel.at(
                self.kernel.chance.uniform(0.05, 4.0), partial(self._late, process, *self._claimed[process])
            )
        if fate in (Fate.LOST, Fate.LATE):
            if fate is Fate.LATE and repeatable:
                self.kernel.at(
                    self.kernel.chance.uniform(0.05, LATE_S.get(what, 4.0)),
                    lambda: self._late(process, what, call),
                )
            self._wait_in_vain(service)
        self._stop(process, fate, Fate.CRASH_BEFORE, Fate.FREEZE_BEFORE, what)
        if fate is Fate.SLOW:
            self.kernel.park(self.kernel.chance.choice((0.0, 0.5, 2.0, 5.0)))
        result = call()
        self._stop(process, fate, Fate.CRASH_AFTER, Fate.FREEZE_AFTER, what)
        if fate is Fate.ANSWER_LOST:
            self._wait_in_vain(service)
        if fate is Fate.REPEATED and repeatable:
            self.kernel.at(
                self.kernel.chance.uniform(0.05, LATE_S.get(what, 4.0)),
                lambda: self._late(process, what, call),
            )
        if fate is Fate.SLOW:
            self.kernel.park(self.kernel.chance.choice((0.0, 0.5, 2.0, 5.0)))
        return result

    def _late(self, process: Process, what: str, call: Callable[[], Any]) -> None:
        self.trace(process.name, f"{what}: executed late")
        try:
            call()
        except Exception as refused:  # noqa: BLE001 - nobody hears of it
            self.trace(process.name, f"{what}: {type(refused).__name__}, unheard")

    def _wait_in_vain(self, service: str) -> None:
        self.kernel.park(self.kernel.chance.choice((0.01, 0.3, 1.5)))
        raise Unavailable(SERVICE.get(service, "the leader"), "simulated", "no answer came")

    def _stop(self, process: Process, fate: Fate, crash: Fate, freeze: Fate, what: str) -> None:
        if fate is crash:
            self.crash(process, f"at {what}")
            self.kernel.die()
        if fate is freeze:
            self.freeze(process, self.kernel.chance.choice((0.5, 3.0, 9.0, 15.0)))
            self.kernel.park(0.0)

    def pause(self, process: Process, what: str) -> None:
        """A point inside of the user's function: only a stop can happen here."""
        fate = self.faults.fate(process, what)
        self._stop(process, fate, Fate.CRASH_BEFORE, Fate.FREEZE_BEFORE, what)
        self._stop(process, fate, Fate.CRASH_AFTER, Fate.FREEZE_AFTER, what)

    def freeze(self, process: Process, seconds: float) -> None:
        self.trace(process.name, f"freezes for {seconds:.1f} s")
        process.frozen_until = max(process.frozen_until, self.kernel.now + seconds)


class Wire:
    """One process's way to a port: looks like the port."""

    def __init__(
        self, points: Points, process: Process, service: str, inner: Any, plain: tuple[str, ...] = ()
    ) -> None:
        self._points, self._process, self._service, self._inner = points, process, service, inner
        for name in plain:
            setattr(self, name, getattr(inner, name))

    def __getattr__(self, name: str) -> Any:
        method, points, process, service = (
            getattr(self._inner, name),
            self._points,
            self._process,
            self._service,
        )
        what = f"{service}.{name}"

        def executed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            points.before(process, what, args, None)
            result = method(*args, **kwargs)
            points.say(process, what, args, result)
            points.after(process, what, args, result)
            return result

        def call(*args: Any, **kwargs: Any) -> Any:
            return points.reach(process, service, what, lambda: executed(args, kwargs))

        setattr(self, name, call)
        return call


class MemberLedgerWire(Wire):
    """Also the effect's transaction, which PostgreSQL ends when its client is gone."""

    def effect_transaction(self, life: Any, claim_id: int, applied: int) -> AbstractContextManager[Any]:
        return self._effect(life, claim_id, applied)

    @contextmanager
    def _effect(self, life: Any, claim_id: int, applied: int) -> Iterator[Any]:
        points, process = self._points, self._process
        inner = self._inner.effect_transaction(life, claim_id, applied)
        transaction = _Transaction(points, process, inner, (life, claim_id, applied))
        try:
            cursor = points.reach(process, "ledger", "ledger.effect_begin", transaction.begin)
        except Unavailable:  # what was begun and not heard of ends with its connection
            points.kernel.at(0.5, transaction.roll_back)
            raise
        try:
            yield cursor
        except BaseException:
            transaction.leave(*sys.exc_info())
            raise
        points.reach(process, "ledger", "ledger.effect_commit", transaction.commit)


class _Transaction:
    """An effect's, as PostgreSQL sees it: it ends by its client, with its client, or when nothing comes for too long."""

    def __init__(self, points: Points, process: Process, inner: Any, args: tuple[Any, int, int]) -> None:
        self._points, self._process, self._inner, self._args = points, process, inner, args
        self._cursor: Any = None
        self._over = False

    def begin(self) -> Any:
        points, process = self._points, self._process
        self._cursor = self._inner.__enter__()
        points.say(process, "ledger.effect_begin", self._args[1:], None)
        points.kernel.at(3.0, self.roll_back)  # idle_in_transaction_session_timeout
        process.at_death.append(
            lambda: points.kernel.at(points.kernel.chance.uniform(0.0, 2.0), self.roll_back)
        )
        if not process.alive:
            points.kernel.at(0.0, self.roll_back)
        return self._cursor

    def commit(self) -> None:
        if self._over:
            raise Unavailable("PostgreSQL", "simulated", "the transaction was rolled back")
        self.leave(None, None, None)
        self._points.say(self._process, "ledger.effect_commit", self._args[1:], None)
        self._points.after(self._process, "ledger.effect_commit", self._args, self._cursor)

    def roll_back(self) -> None:
        if not self._over:
            try:
                self.leave(Unavailable, Unavailable("PostgreSQL", "simulated", "rolled back"), None)
            except Unavailable:
                self._points.trace(self._process.name, "ledger: rolled back the effect's transaction")

    def leave(self, *why: Any) -> None:
        if not self._over:
            self._over = True
            self._inner.__exit__(*why)


class ConsumerWire(Wire):
    """Offset commits say what became of them; they never raise."""

    def __init__(self, points: Points, process: Process, inner: Any) -> None:
        super().__init__(points, process, "kafka", inner, plain=("pause", "resume", "assignment", "close"))

    def commit(self, offsets: Mapping[Any, tuple[int, int]]) -> Mapping[Any, tuple[CommitCode, str]]:
        if not offsets:
            return {}

        self._points.before(self._process, "kafka.commit", (offsets,), self._inner._positions)

        def executed() -> Any:
            answers = self._inner.commit(offsets)
            self._points.say(self._process, "kafka.commit", (offsets,), answers)
            self._points.after(self._process, "kafka.commit", (offsets,), answers)
            return answers

        try:
            answers: Mapping[Any, tuple[CommitCode, str]] = self._points.reach(
                self._process, "kafka", "kafka.commit", executed
            )
        except Unavailable:
            return dict.fromkeys(offsets, (CommitCode.RETRY, "_TIMED_OUT"))
        return answers

    def poll(self, max_records: int, timeout_s: float) -> Any:
        """Fetching goes on in the client; what fails there only looks like silence."""
        points, process = self._points, self._process
        fate = points.faults.fate(process, "kafka.poll")
        points._stop(process, fate, Fate.CRASH_BEFORE, Fate.FREEZE_BEFORE, "kafka.poll")
        if not points.faults.connected(process.name, "kafka") or fate is Fate.LOST:
            points.kernel.park(timeout_s)
            return type(self).nothing
        polled = self._inner.poll(max_records, timeout_s)
        if polled.batches:
            points.trace(
                process.name, f"kafka.poll: {', '.join(f'{b.partition}{b.range}' for b in polled.batches)}"
            )
        points._stop(process, fate, Fate.CRASH_AFTER, Fate.FREEZE_AFTER, "kafka.poll")
        return polled

    nothing: Any = None


class ConsumersWire:
    def __init__(self, points: Points, process: Process, inner: Any) -> None:
        self._points, self._process, self._inner = points, process, inner

    def open(self, slot: str, listener: Any) -> ConsumerWire:
        opened = self._points.reach(
            self._process, "kafka", "kafka.open", lambda: self._inner.open(slot, listener)
        )
        self._points.after(self._process, "kafka.open", (slot,), opened)
        return ConsumerWire(self._points, self._process, opened)
