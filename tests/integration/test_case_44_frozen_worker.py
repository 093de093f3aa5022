"""Case 44: no timer alone takes over a claim of a frozen worker, and woken it makes no second effect."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import victim
from conftest import create_topic, unique
from outcomes import EffectTable, await_settled, evidence_checks, new_database
from world import World, eventually, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.protocol.claims import CheckReference
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Until

pytestmark = pytest.mark.integration

IN_HAND = (0, victim.EFFECT_AT)


@pytest.fixture
def world(kafka: str, zookeeper: str, postgres: str) -> Iterator[World]:
    topic = create_topic(kafka, unique("topic"), 1, {})
    with new_database(postgres) as database:
        yield make_world(kafka, zookeeper, database, topic)


def is_frozen(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def guard_of(pid: int) -> int:
    """A child belongs to the thread that started it."""
    children = [
        c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()
    ]
    (guard,) = [int(c) for c in children if b"guard/watch.py" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return guard


def doubts(world: World) -> list[Any]:
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        return list(ledgers.report.doubts(world.group, False))


def doubt_in_hand(world: World) -> Any:
    return next((d for d in doubts(world) if d["start"] <= victim.EFFECT_AT < d["stop"]), None)


def life_is_over(world: World) -> bool:
    with wiring.shared_ledger(world.services.ledger) as ledgers:
        return not [m for m in ledgers.report.status()["members"] if m["group_id"] == world.group]


def wake(frozen: subprocess.Popen[bytes], guard: int, step: str) -> None:
    """In an effect only the guard can stop it, so the guard runs first: what else may happen is in the guarantees. Before the
    start the worker itself looks, without its guard."""
    if step == "frozen":
        os.kill(guard, signal.SIGCONT)
        assert frozen.wait(30) == -signal.SIGKILL, "nobody but its guard has sent that"
    else:
        os.kill(frozen.pid, signal.SIGCONT)
        assert frozen.wait(60) == 0, "it has looked at its trust window, and stopped"
        eventually(
            "its guard, which is still stopped, went with it", lambda: not Path(f"/proc/{guard}").exists()
        )


@pytest.mark.parametrize("step", victim.FROZEN)
def test_case_44_a_frozen_workers_record_is_redone_only_after_its_check(world: World, step: str) -> None:
    world.produce([b"x"] * 10)
    table, asked, answer = (
        EffectTable(world.services.ledger.conninfo, world.group),
        threading.Event(),
        threading.Event(),
    )

    def check(record: Record) -> bool:
        if record.offset == victim.EFFECT_AT:
            asked.set()
            assert answer.wait(60)
        return table.check(record)

    reference = CheckReference(path=world.group, effect_timeout_s=0.0)
    with world.coordinator(), evidence_checks(world.services, lambda _: check):
        frozen = victim.start(world, step)
        try:
            eventually("it is frozen", lambda: frozen.poll() is not None or is_frozen(frozen.pid))
            guard = guard_of(frozen.pid)
            os.kill(guard, signal.SIGSTOP)
            assert not doubts(world), "while it has its lease, nobody judges it"
            eventually("its lease is over", lambda: life_is_over(world))
            window = eventually("its record in hand is in doubt", lambda: doubt_in_hand(world))
            assert (window["kind"], window["outcome"]) == ("window", None)
            function = UserFunction(apply=table, check=table.check)
            successor = world.run(
                "dag.task", function, Until(to_end=False), owner="dag/run/task", check=reference
            )
            assert asked.wait(60)
            world.produce([b"x"] * 10)
            later = {(0, offset) for offset in range(10, 20)}
            eventually("what came later has its effects", lambda: later <= table.seen.keys())
            assert IN_HAND not in table.seen
            assert doubt_in_hand(world)["outcome"] is None, "no timer closes it"
            answer.set()
            await_settled(world)
            assert doubt_in_hand(world)["outcome"] == "redone"
            assert table.seen == {(0, offset): 1 for offset in range(20)}
            wake(frozen, guard, step)
            successor.stop()
            successor.join()
        finally:
            answer.set()
            frozen.kill()
            frozen.wait(10)
    assert table.seen == {(0, offset): 1 for offset in range(20)}, "no second effect"
    table.close()
