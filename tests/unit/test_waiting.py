"""A member that waits: one thread of its own, no link to the leader, and leases renewed by threads of the process."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from fakes import eventually
from members import Members

from airflow_kafka_exactly.errors import Fenced, Unavailable
from airflow_kafka_exactly.protocol.claims import LifeKind
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.renewals import THREADS_AT_MOST, Renewals
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.runtime.waiting import await_work

FOREVER = Until(to_end=False)


class Waiting:
    """`await_work` in a thread, as a trigger has it."""

    def __init__(self, world: Members, until: Until = FOREVER) -> None:
        self.membership, self._until = world.membership(kind=LifeKind.TRIGGER), until
        self.ended: Any = None
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        try:
            with self.membership as opened:
                self.ended = await_work(opened, self._until, 0.0)
        except Exception as failure:  # noqa: BLE001 - the test looks at it
            self.ended = failure

    @property
    def holds(self) -> bool:
        poller = getattr(self.membership, "poller", None)
        return bool(poller and poller.hand.partitions())

    def end(self) -> Any:
        self._thread.join(20)
        return self.ended


def test_a_waiting_member_has_no_thread_and_no_link_of_its_own() -> None:
    with Members() as world:
        first = Waiting(world)
        eventually(lambda: first.holds)
        assert [t.name for t in threading.enumerate() if t.name.startswith("a-")] == []
        assert world.coordinator._leading.connected()[0] == ()
        world.produce(1)
        assert first.end() is Ending.RECORDS


def test_without_a_leader_nobody_is_woken_for_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker could only wait for one, in its slot and not for long. No idle time passes meanwhile: there is work."""
    with Members() as world:
        waiting = Waiting(world, until=Until(to_end=False, idle_timeout_s=3.0))
        eventually(lambda: waiting.holds)
        directory, asked = waiting.membership.ports.directory, threading.Event()
        find, leads = directory.leader_address, threading.Event()

        def leader_address() -> str | None:
            asked.set()
            return find() if leads.is_set() else None

        monkeypatch.setattr(directory, "leader_address", leader_address)
        world.produce(3)
        assert asked.wait(10)
        until = world.clock.now() + 3.5
        eventually(lambda: world.clock.now() > until)
        assert waiting.ended is None
        leads.set()
        assert waiting.end() is Ending.RECORDS


def test_a_waiting_member_that_is_told_to_stop_says_nothing() -> None:
    with Members() as world:
        waiting = Waiting(world)
        eventually(lambda: waiting.holds)
        waiting.membership.background.stopping.set()
        assert isinstance(waiting.end(), Stopped)


def test_a_waiting_member_polls_on_while_the_ledger_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops polling loses his place in the group (`max.poll.interval.ms`)."""
    with Members() as world:
        asked = threading.Event()

        def away(_group: str) -> int:
            asked.set()
            raise Unavailable("the ledger", "ledger", "away")

        monkeypatch.setattr(world.ledger.member, "released_count", away)
        waiting = Waiting(world)
        eventually(asked.is_set)
        eventually(lambda: waiting.holds)
        world.produce(1)
        assert waiting.end() is Ending.RECORDS


def test_a_waiting_member_whose_life_was_taken_over_is_fenced() -> None:
    """It hears so from a renewal, in a thread that is not its own."""
    with Members() as world:
        older = Waiting(world)
        eventually(lambda: older.holds)
        with world.membership():  # the same owner: a worker of the same task
            assert isinstance(older.end(), Fenced)


# -- renewals ----------------------------------------------------------------------------------------------------------


class Lease:
    """As much of a `LeaseKeeper` as `Renewals` needs."""

    def __init__(self, every_s: float = 0.0) -> None:
        self.every_s, self.due_at, self.renewed = every_s, time.monotonic() + every_s, 0
        self.goes_on = True
        self.begun, self.answer = threading.Event(), threading.Event()
        self.answer.set()

    def due_in_s(self) -> float:
        return self.due_at - time.monotonic()

    def renew(self, _life: Any) -> bool:
        self.begun.set()
        assert self.answer.wait(20)
        self.renewed += 1
        self.due_at = time.monotonic() + self.every_s
        return self.goes_on


def threads() -> int:
    return sum(t.name.startswith("kafka-exactly-lease") for t in threading.enumerate())


def keep(renewals: Renewals, lease: Any) -> None:
    renewals.keep(lease, lease)


def test_a_few_threads_renew_many_leases_and_end_with_the_last() -> None:
    renewals, leases = Renewals(), [Lease(0.05) for _ in range(50)]
    before = threads()
    for lease in leases:
        keep(renewals, lease)
    eventually(lambda: min(lease.renewed for lease in leases) >= 3)
    assert threads() - before == THREADS_AT_MOST
    for lease in leases:
        renewals.forget(lease)  # type: ignore[arg-type]
    eventually(lambda: threads() == before)
    keep(renewals, again := Lease(0.01))
    eventually(lambda: again.renewed > 1)
    renewals.forget(again)  # type: ignore[arg-type]


def test_a_slow_answer_for_one_lease_does_not_hold_up_the_others() -> None:
    renewals, slow, quick = Renewals(), Lease(), Lease(0.01)
    slow.answer.clear()
    keep(renewals, slow)
    assert slow.begun.wait(10)
    keep(renewals, quick)
    eventually(lambda: quick.renewed > 3)
    assert slow.renewed == 0
    slow.goes_on = False
    slow.answer.set()
    eventually(lambda: slow.renewed == 1)
    renewals.forget(quick)  # type: ignore[arg-type]


def test_a_forgotten_lease_is_not_renewed_any_more() -> None:
    """Its life signs off next, and a late renewal would be of a life that is over."""
    renewals, lease = Renewals(), Lease()
    lease.answer.clear()
    keep(renewals, lease)
    assert lease.begun.wait(10)
    threading.Timer(0.2, lease.answer.set).start()
    renewals.forget(lease)  # type: ignore[arg-type]
    assert lease.renewed == 1
    keep(renewals, other := Lease(0.01))
    eventually(lambda: other.renewed > 3)
    assert lease.renewed == 1
    renewals.forget(other)  # type: ignore[arg-type]


def test_a_lease_that_is_over_is_dropped() -> None:
    renewals, lease = Renewals(), Lease()
    lease.goes_on = False
    keep(renewals, lease)
    keep(renewals, other := Lease(0.01))
    eventually(lambda: other.renewed > 3)
    assert lease.renewed == 1
    renewals.forget(other)  # type: ignore[arg-type]
