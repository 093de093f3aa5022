"""Members, a leader and the ledger together, on real Kafka, ZooKeeper and PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from world import Effects, World, eventually, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.errors import SlotBusy
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Ending, Until

pytestmark = pytest.mark.integration


@pytest.fixture
def world(kafka: str, zookeeper: str, database: str, topic: Callable[..., str]) -> World:
    return make_world(kafka, zookeeper, database, topic(partitions=3))


@pytest.fixture
def led(world: World) -> Iterator[World]:
    """A world with a leader."""
    with world.coordinator():
        yield world


def settled(world: World) -> bool:
    """Every record is settled and every offset commit is made."""
    with wiring.member_ports(world.services, world.kafka_settings(), guarded=False) as ports:
        ends = ports.admin.end_offsets([world.topic])
        frontiers = ports.ledger.frontiers(world.group, [world.topic])
        committed = ports.admin.committed(world.group, list(ends))
    filled = {p: end for p, end in ends.items() if end}
    return all(frontiers.get(p) == end == committed.get(p) for p, end in filled.items())


def test_one_member_gives_each_record_its_effect_and_commits(led: World) -> None:
    for partition in range(3):
        led.produce([b"%d" % i for i in range(500)], partition)
    effects = Effects()
    member = led.run("dag.task", UserFunction(apply=effects), led.until_end())
    assert member.ended() is Ending.END
    assert len(effects.seen) == 1500
    assert not effects.repeated
    assert settled(led)
    assert member.summary.counts["applied"] == member.summary.counts["fresh"] == 1500


def test_case_18_and_any_bytes_reach_the_function_as_they_are(led: World) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": led.kafka})
    given = [
        (b"\x00\xff", bytes(range(256)), [("h", b"\x00"), ("h", None), ("", b"")]),
        (None, None, None),
        (b"", b"", []),
    ]
    for key, value, headers in given:
        producer.produce(led.topic, value, key, partition=0, headers=headers)
    producer.flush(30)
    effects = Effects()
    led.run("dag.task", UserFunction(apply=effects), led.until_end()).ended()
    assert [(r.key, r.value, list(r.headers)) for r in effects.records] == [
        (key, value, headers or []) for key, value, headers in given
    ]


def test_two_members_share_the_partitions_and_the_end_is_the_groups(led: World) -> None:
    effects = Effects()

    def slowly(record: Record) -> None:
        time.sleep(0.001)
        effects(record)

    for partition in range(3):
        led.produce([b"x"] * 400, partition)
    until = led.until_end()
    members = [led.run(f"dag.task[{i}]", UserFunction(apply=slowly), until) for i in range(2)]
    assert [m.ended() for m in members] == [Ending.END, Ending.END]
    assert len(effects.seen) == 1200
    assert not effects.repeated
    assert settled(led)


def test_case_23_a_second_copy_takes_over_and_the_older_stops_at_the_fence(led: World) -> None:
    """The same task instance twice at once: one effect per record."""
    effects, entered = Effects(), threading.Event()

    def slowly(record: Record) -> None:
        entered.set()
        time.sleep(0.005)
        effects(record)

    for partition in range(3):
        led.produce([b"x"] * 300, partition)
    until = led.until_end()
    older = led.run("dag.task", UserFunction(apply=slowly, check=effects.check), until, owner="dag/run/task")
    assert entered.wait(30)
    newer = led.run("dag.task", UserFunction(apply=slowly, check=effects.check), until, owner="dag/run/task")
    older.join()
    assert older.failure is not None
    newer.stop()
    newer.join()
    assert not effects.repeated


def test_a_slot_that_another_task_instance_holds_is_busy(led: World) -> None:
    led.produce([b"x"])
    forever = Until(to_end=False)
    first = led.run("dag.task", UserFunction(apply=Effects()), forever, owner="run 1")
    with pytest.raises(SlotBusy, match="run 1"):
        led.run("dag.task", UserFunction(apply=Effects()), forever, owner="run 2")
    first.stop()
    first.join()
    effects = Effects()
    led.run("dag.task", UserFunction(apply=effects), led.until_end(), owner="run 2").ended()
    assert not effects.repeated


def test_case_43_a_poison_record_becomes_a_dead_letter_and_its_neighbours_proceed(led: World) -> None:
    effects = Effects()

    def poisoned(record: Record) -> None:
        if record.value == b"poison":
            raise ValueError("cannot be applied")
        effects(record)

    led.produce([b"a", b"poison", b"b", b"poison"])
    member = led.run("dag.task", UserFunction(apply=poisoned, vouches=True), led.until_end())
    assert member.ended() is Ending.END
    assert sorted(offset for _, offset in effects.seen) == [0, 2]
    assert member.summary.counts["dead_letters"] == 2
    assert member.summary.counts["retried"] == 4
    assert settled(led)


def test_f1_an_exception_without_a_check_is_a_doubt_and_the_rest_goes_on(led: World) -> None:
    effects = Effects()

    def poisoned(record: Record) -> None:
        if record.value == b"poison":
            raise ValueError("before or after the effect?")
        effects(record)

    led.produce([b"a", b"poison", b"b"])
    member = led.run("dag.task", UserFunction(apply=poisoned), led.until_end())
    assert member.ended() is Ending.END
    assert sorted(offset for _, offset in effects.seen) == [0, 2]
    assert member.summary.counts["raised"] == 1


def test_an_exception_after_the_effect_is_not_repeated_when_the_check_says_yes(led: World) -> None:
    effects = Effects()

    def late(record: Record) -> None:
        effects(record)
        raise TimeoutError("the answer was lost")

    led.produce([b"a", b"b"])
    function = UserFunction(apply=late, check=effects.check)
    assert led.run("dag.task", function, led.until_end()).ended() is Ending.END
    assert effects.seen == {(0, 0): 1, (0, 1): 1}


def test_f1_a_no_of_the_check_counts_only_after_the_effect_timeout(led: World) -> None:
    """The call times out here while the target still works on it: asked at once the check says no, and would be wrong."""
    led.effect_timeout_s = 2.0
    effects, late = Effects(), list[threading.Timer]()

    def times_out(record: Record) -> None:
        if record.offset > 0:
            effects(record)
            return
        late.append(threading.Timer(0.5, effects, [record]))
        late[-1].start()
        raise TimeoutError("no answer yet")

    led.produce([b"a", b"b"])
    function = UserFunction(apply=times_out, check=effects.check)
    assert led.run("dag.task", function, led.until_end()).ended() is Ending.END
    assert len(late) == 1
    assert effects.seen == {(0, 0): 1, (0, 1): 1}


def test_case_45_a_record_may_run_longer_than_its_lease(led: World) -> None:
    effects = Effects()
    lease_s = led.services.lease.lease_s

    def long(record: Record) -> None:
        if record.offset == 0:
            until = time.monotonic() + lease_s * 1.5
            while time.monotonic() < until:
                time.sleep(0.05)
        effects(record)

    led.produce([b"long", b"short"])
    assert led.run("dag.task", UserFunction(apply=long), led.until_end()).ended() is Ending.END
    assert effects.seen == {(0, 0): 1, (0, 1): 1}


def test_a_batch_function_gets_the_batch_as_its_unit(led: World) -> None:
    batches: list[list[int]] = []
    led.produce([b"x"] * 250)
    member = led.run(
        "dag.task",
        UserFunction(apply=lambda records: batches.append([r.offset for r in records]), unit=True),
        led.until_end(),
    )
    assert member.ended() is Ending.END
    assert [offset for batch in batches for offset in batch] == list(range(250))
    assert max(map(len, batches)) <= led.batch


def test_effects_in_the_ledgers_own_transaction(led: World, database: str) -> None:
    import psycopg

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create table public.effects (record_offset bigint)")
        failed = threading.Event()

        def insert(record: Record, *, cursor: object) -> None:
            cursor.execute("insert into public.effects values (%s)", (record.offset,))  # type: ignore[attr-defined]
            if record.offset == 3 and not failed.is_set():
                failed.set()
                raise ValueError("rolled back, which is proof")

        led.produce([b"x"] * 50)
        member = led.run("dag.task", UserFunction(apply=insert, in_ledger=True), led.until_end())
        assert member.ended() is Ending.END
        rows = connection.execute("select record_offset from public.effects order by 1").fetchall()
    assert [offset for (offset,) in rows] == list(range(50))
    assert member.summary.counts["retried"] == 1


def test_released_doubts_are_redone_by_a_member(led: World) -> None:
    """Raised, judged not applied, and redone from the stored payload."""
    from airflow_kafka_exactly.protocol.claims import Decision, Verdict

    effects, healed = Effects(), threading.Event()

    def flaky(record: Record) -> None:
        if record.value == b"flaky" and not healed.is_set():
            raise ValueError("who knows")
        effects(record)

    led.produce([b"a", b"flaky", b"b"])
    member = led.run("dag.task", UserFunction(apply=flaky), Until(to_end=False))
    with wiring.shared_ledger(led.services.ledger) as ledgers:
        (doubt,) = eventually("the doubt is announced", lambda: ledgers.evidence.announce(10, 60.0))
        healed.set()
        decided = ledgers.evidence.decide(
            Decision(
                doubt_id=doubt.doubt_id,
                version=doubt.version,
                verdict=Verdict.NOT_APPLIED,
                by="a test",
                evidence={},
            )
        )
    assert decided
    eventually("the doubt is redone", lambda: effects.seen[0, 1])
    member.stop()
    member.join()
    assert effects.seen == {(0, 0): 1, (0, 1): 1, (0, 2): 1}
    assert effects.records[-1].value == b"flaky"


def test_h23_doubts_whose_answer_was_lost_are_redone_although_the_epoch_was_raised(
    led: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claims are ours, nobody has told us, and by now nobody counts the doubts as released."""
    from airflow_kafka_exactly.adapters.postgres.member import PostgresMemberLedger
    from airflow_kafka_exactly.errors import Unavailable
    from airflow_kafka_exactly.protocol.claims import Decision, Verdict

    effects, healed, really = Effects(), threading.Event(), PostgresMemberLedger.claim_released
    losses: list[int] = []

    def flaky(record: Record) -> None:
        if record.value == b"flaky" and not healed.is_set():
            raise ValueError("who knows")
        effects(record)

    with wiring.shared_ledger(led.services.ledger) as ledgers:

        def lost_once(self: PostgresMemberLedger, *asked: Any) -> Any:
            redos = really(self, *asked)
            if redos and not losses:
                losses.append(ledgers.leader.raise_epoch("another"))
                raise Unavailable("PostgreSQL", "test", "no answer came")
            return redos

        monkeypatch.setattr(PostgresMemberLedger, "claim_released", lost_once)
        led.produce([b"a", b"flaky", b"b"])
        member = led.run("dag.task", UserFunction(apply=flaky), Until(to_end=False))
        (doubt,) = eventually("the doubt is announced", lambda: ledgers.evidence.announce(10, 60.0))
        healed.set()
        decision = Decision(
            doubt_id=doubt.doubt_id,
            version=doubt.version,
            verdict=Verdict.NOT_APPLIED,
            by="a test",
            evidence={},
        )
        assert ledgers.evidence.decide(decision)
        eventually("the doubt is redone", lambda: effects.seen[0, 1])
    member.stop()
    member.join()
    assert losses
    assert not effects.repeated
