"""Cases 1 and 4: members with faults drawn at random in every port, while somebody else looks at Kafka's committed offsets and
the ledger. A safety act first, then a healing one in which everything has to be settled (L1)."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from outcomes import S2Watch, await_settled, committed, deviations, evidence_checks
from seams import seamed
from world import Effects, Running, World, eventually, make_world

from airflow_kafka_exactly.adapters.kafka import ClusterAdmin
from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol.claims import CheckReference, CommitCode
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.membership import MemberPorts
from airflow_kafka_exactly.runtime.until import Until

pytestmark = pytest.mark.integration

PARTITIONS, RECORDS = 3, 500
SAFETY_S = 20.0
"""How long faults go on at most."""


class Dead(BaseException):
    """What a process that was killed does with every call: nothing comes back, and nothing is said good-bye to."""


class Faults:
    """Draws from one seed; `healed` ends them."""

    def __init__(self, world: World, effects: Effects, seed: int) -> None:
        self._world, self._effects, self._chance = world, effects, random.Random(seed)
        self._kill_at = [100, 400, 800]
        """At so many effects a process is killed."""
        self.healed = threading.Event()
        self.happened: Counter[str] = Counter()

    def one_in(self, n: int, what: str) -> bool:
        happens = not self.healed.is_set() and self._chance.randrange(n) == 0
        self.happened[what] += happens
        return happens

    def wrap(self, ports: MemberPorts) -> MemberPorts:
        dead = threading.Event()

        def hook(place: str, call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
            if place in ("ledger.claim", "ledger.mark", "consumer.commit") and self._kills():
                dead.set()
            if dead.is_set() and place != "consumer.close":  # the operating system closes sockets
                raise Dead(place)
            if place == "consumer.commit":
                return self._commit(call, arguments[0])
            return self._call(place, call)

        return seamed(ports, hook)

    def _kills(self) -> bool:
        due = bool(self._kill_at) and len(self._effects.seen) >= self._kill_at[0]
        if due:
            self._kill_at.pop(0)
            self.happened["killed"] += 1
        return due

    def _call(self, place: str, call: Callable[[], Any]) -> Any:
        lossy = place.startswith("ledger.") or place in ("link.vote", "consumer.poll")
        if lossy and self.one_in(40, f"{place} not reached"):
            raise Unavailable(place, "a test", "not reached")
        answer = call()
        if lossy and place != "consumer.poll" and self.one_in(40, f"{place} without an answer"):
            raise Unavailable(place, "a test", "its answer was lost")
        return answer

    def _commit(self, call: Callable[[], Any], due: Any) -> Any:
        """S2, looked at where an offset leaves the process: whatever happens to it, it must be right."""
        found = [d for d in deviations(self._world, {p: o for p, (o, _) in due.items()}) if not d["pending"]]
        assert not found, f"S2: {due} was committed, but {found}"
        if due and self.one_in(4, "offset commit refused"):
            return dict.fromkeys(due, (CommitCode.ORPHAN, "UNKNOWN_MEMBER_ID"))
        answer = call()
        if due and self.one_in(4, "offset commit without an answer"):
            return dict.fromkeys(due, (CommitCode.RETRY, "_TIMED_OUT"))
        return answer


class Worker:
    """A slot whose process is started anew whenever it dies."""

    def __init__(self, world: World, slot: str, function: UserFunction) -> None:
        self._world, self._slot, self._function = world, slot, function
        self._stopping, self._running = threading.Event(), list[Running]()
        self.failures: list[BaseException | None] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for running in list(self._running):
            running.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                running = self._world.run(
                    self._slot,
                    self._function,
                    Until(to_end=False),
                    check=CheckReference(path="check", effect_timeout_s=0.0),
                )
            except BaseException:  # noqa: BLE001 - it died while it opened
                self._stopping.wait(0.2)
                continue
            self._running.append(running)
            if self._stopping.is_set():
                running.stop()
            running.join(300)
            self.failures.append(running.failure)


@pytest.fixture
def world(kafka: str, zookeeper: str, database: str, topic: Callable[..., str]) -> World:
    made = make_world(kafka, zookeeper, database, topic(partitions=PARTITIONS))
    made.batch = 40
    return made


def faulty(faults: Faults, effects: Effects) -> Callable[[Record], None]:
    """The user's function raises now and then, before its effect or after it, and never says which."""

    def apply(record: Record) -> None:
        time.sleep(0.002)
        if faults.one_in(50, "raised before the effect"):
            raise RuntimeError("before")
        effects(record)
        if faults.one_in(50, "raised after the effect"):
            raise RuntimeError("after")

    return apply


def run_with_faults(world: World, faults: Faults, effects: Effects) -> Sequence[Worker]:
    """Two slots, until the faults have had their time and everything is settled after it."""
    function = UserFunction(apply=faulty(faults, effects), check=effects.check)
    workers = [Worker(world, f"dag.task[{i}]", function) for i in range(2)]
    try:
        until = time.monotonic() + SAFETY_S
        while time.monotonic() < until and len(effects.seen) < PARTITIONS * RECORDS:
            time.sleep(0.1)
        faults.healed.set()
        await_settled(world)
    finally:
        faults.healed.set()
        for worker in workers:
            worker.stop()
    return workers


@pytest.mark.parametrize("seed", [1])
def test_case_04_no_offset_commit_passes_what_is_not_settled(world: World, seed: int) -> None:
    """And case 1: after it every offset below the committed ones has one outcome; what is damaged then is named by offset."""
    for partition in range(PARTITIONS):
        world.produce([b"x"] * RECORDS, partition)
    effects = Effects()
    faults = Faults(world, effects, seed)
    world.wrap = faults.wrap
    with (
        world.coordinator(),
        evidence_checks(world.services, lambda _: effects.check),
        S2Watch(world) as watch,
    ):
        workers = run_with_faults(world, faults, effects)
        assert watch.moves >= 5
    ends = [failure for worker in workers for failure in worker.failures]
    assert all(isinstance(end, Dead | Stopped) for end in ends), "nothing else ends a member"
    assert sum(isinstance(end, Dead) for end in ends) == faults.happened["killed"] == 3
    assert {what for what, times in faults.happened.items() if times} >= {
        "offset commit refused",
        "offset commit without an answer",
        "raised before the effect",
        "raised after the effect",
        "consumer.poll not reached",
    }
    assert sum(times for what, times in faults.happened.items() if what.startswith("ledger.")) >= 5
    assert effects.seen == {(p, offset): 1 for p in range(PARTITIONS) for offset in range(RECORDS)}
    assert not deviations(world)
    plant_a_deviation(world)


def plant_a_deviation(world: World) -> None:
    """An offset commit that is not ours, past what was ever claimed."""
    world.produce([b"never claimed"] * 5, 1)
    before = next(p for p in committed(world) if p.number == 1)
    kafka = world.kafka_settings()
    admin = ClusterAdmin(kafka.connection, kafka.config)

    def altered() -> bool:
        return admin.alter(world.group, {before: RECORDS + 3})[before]

    eventually("the group is empty, and its offset altered", altered)
    assert [(d["partition"], d["start"], d["stop"], d["pending"]) for d in deviations(world)] == [
        (1, RECORDS, RECORDS + 3, False)
    ]
