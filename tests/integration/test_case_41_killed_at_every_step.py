"""Case 41: a worker is killed (SIGKILL) at each step of a batch's way and restarted; each record still has its effect, once.

All the steps run at once, each in a consumer group of its own on one topic, because what takes time is the dead life's lease.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import victim
from conftest import create_topic, unique
from outcomes import EffectTable, await_settled, deviations, evidence_checks, new_database
from world import Running, World, make_world

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.protocol.claims import CheckReference
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

RECORDS, BATCH = 40, 20
STEPS = (
    "ledger.open_life",
    "ledger.open_partitions",
    "consumer.poll",
    "link.vote before",
    "link.vote",
    "ledger.claim",
    "started",
    "before the effect",
    "after the effect",
    "applied",
    "consumer.commit before",
    "consumer.commit",
    "batch: before the effect",
    "batch: after the effect",
)
EFFECTS_AT_DEATH = {
    "before the effect": 7,
    "after the effect": 8,
    "batch: before the effect": 0,
    "batch: after the effect": BATCH,
}


@dataclass(kw_only=True)
class Killed:
    """What came of one step: the victim's exit, and the group after its successor."""

    world: World
    exit: int
    effects_at_death: int
    table: EffectTable


@pytest.fixture(scope="module")
def database(postgres: str) -> Iterator[str]:
    with new_database(postgres) as conninfo:
        yield conninfo


@pytest.fixture(scope="module")
def killed(kafka: str, zookeeper: str, database: str) -> Iterator[dict[str, Killed]]:
    world = make_world(kafka, zookeeper, database, create_topic(kafka, unique("topic"), 1, {}))
    world.produce([b"x"] * RECORDS)
    worlds = {step: replace(world, group=unique("group"), batch=BATCH) for step in STEPS}
    tables = {w.group: EffectTable(database, w.group) for w in worlds.values()}

    def resolve(reference: CheckReference) -> Callable[..., Any]:
        return tables[reference.path].check_of(reference.batch)

    with contextlib.ExitStack() as stack:
        stack.enter_context(world.coordinator())
        stack.enter_context(evidence_checks(world.services, resolve))
        victims = {
            step: victim.start(w, step.removeprefix("batch: "), unit=step.startswith("batch: "))
            for step, w in worlds.items()
        }
        for process in victims.values():
            stack.callback(process.kill)
        found = {}
        for step, process in victims.items():
            code, table = process.wait(120), tables[worlds[step].group]
            found[step] = Killed(
                world=worlds[step], exit=code, effects_at_death=table.seen.total(), table=table
            )
        successors = [successor(w, step, tables[w.group]) for step, w in worlds.items()]
        for running in successors:
            stack.callback(running.join)
            stack.callback(running.stop)
        for w in worlds.values():
            await_settled(w)
    yield found
    for table in tables.values():
        table.close()


def successor(world: World, step: str, table: EffectTable) -> Running:
    unit = step.startswith("batch: ")

    def apply(given: Any) -> None:
        for record in given if unit else [given]:
            table(record)

    reference = CheckReference(path=world.group, batch=unit, effect_timeout_s=0.0)
    return world.run(
        "dag.task",
        UserFunction(apply=apply, unit=unit, check=table.check_of(unit)),
        Until(to_end=False),
        owner="dag/run/task",
        check=reference,
    )


@pytest.mark.parametrize("step", STEPS)
def test_case_41_killed_and_restarted(killed: dict[str, Killed], step: str) -> None:
    one = killed[step]
    assert one.exit == -signal.SIGKILL, "it died where it should"
    assert one.effects_at_death == EFFECTS_AT_DEATH.get(step, one.effects_at_death)
    assert one.table.seen == {(0, offset): 1 for offset in range(RECORDS)}
    assert not deviations(one.world), "case 1"


@pytest.mark.parametrize("step", STEPS)
def test_case_41_the_check_is_asked_only_about_the_window(killed: dict[str, Killed], step: str) -> None:
    """Before `started` nobody asks it, and in the window what it says is what happens."""
    with wiring.shared_ledger(killed[step].world.services.ledger) as ledgers:
        doubts = ledgers.report.doubts(killed[step].world.group, False)
    asked = {d["start"]: d["outcome"] for d in doubts if d["decided_by"] == "check"}
    if step.startswith("batch: "):
        assert asked == {0: "discarded" if "after" in step else "redone"}
    elif "effect" in step:
        assert asked[7] == ("discarded" if "after" in step else "redone")
    elif step.startswith(("ledger.open", "consumer.poll", "link.vote", "ledger.claim")):
        assert not asked, "no record had been started"
