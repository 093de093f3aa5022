"""A worker process that ends itself (SIGKILL) at one step of a batch's way (case 41), or freezes there, watched by its guard.

Its one argument is JSON: where the services are, the group, the step, and whether the function is a batch function.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from outcomes import EffectTable
from seams import seamed
from world import World, make_world

from airflow_kafka_exactly.adapters.guard import NoGuard, ProcessGuard
from airflow_kafka_exactly.ports import EffectGuard
from airflow_kafka_exactly.protocol.claims import CheckReference
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Until

FROZEN = ("frozen", "frozen before it starts")
"""Steps that end in SIGSTOP: inside of an effect, or before the last look at the trust window. Every thread stands still, until
somebody sends SIGCONT."""
EFFECT_AT = 7
"""The offset whose effect the process dies at; in the middle of a window and of a batch."""


class Steps:
    """Where to die: `<place>[ before]`, at the first call there that carries work."""

    def __init__(self, step: str) -> None:
        self._place, self._before = step.removesuffix(" before"), step.endswith(" before")
        self._step = step

    def hook(self, place: str, call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        if place == self._place and self._before and self._works(place, arguments, None):
            die()
        answer = call()
        if place == self._place and not self._before and self._works(place, arguments, answer):
            die()
        if self._step == FROZEN[1] and place == "ledger.mark" and arguments[1][0].started > EFFECT_AT:
            freeze()
        if self._step == "started" and place == "ledger.mark" and arguments[1][0].applied == 0:
            die()
        if self._step == "applied" and place == "ledger.mark" and arguments[1][0].applied > EFFECT_AT:
            die()
        return answer

    @staticmethod
    def _works(place: str, arguments: tuple[Any, ...], answer: Any) -> bool:
        if place == "consumer.poll":
            return bool(answer.batches)
        return bool(arguments[0]) if place == "consumer.commit" else True

    def effect(self, step: str, records: Sequence[Record]) -> None:
        if any(record.offset == EFFECT_AT for record in records):
            if self._step == step:
                die()
            if (self._step, step) == ("frozen", "before the effect"):
                freeze()


def freeze() -> None:
    """To this very thread, which stops before it returns from here; the kernel may hand a signal for the process to another."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def start(world: World, step: str, *, unit: bool = False) -> subprocess.Popen[bytes]:
    """Start such a process for this world's group. The caller waits for it, and ends it if it must."""
    told = {
        "kafka": world.kafka,
        "zookeeper": world.services.election.hosts,
        "root": world.services.election.root,
        "database": world.services.ledger.conninfo,
        "topic": world.topic,
        "group": world.group,
        "batch": world.batch,
        "step": step,
        "unit": unit,
    }
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, __file__, json.dumps(told)], env=paths)


def world_of(told: dict[str, Any]) -> World:
    world = make_world(told["kafka"], told["zookeeper"], told["database"], told["topic"])
    election = replace(world.services.election, root=told["root"])
    world.services = replace(world.services, election=election)
    world.group, world.batch = told["group"], told["batch"]
    return world


def main(told: dict[str, Any]) -> None:
    world, steps = world_of(told), Steps(told["step"])
    table = EffectTable(told["database"], told["group"])
    guard: EffectGuard = ProcessGuard() if told["step"] in FROZEN else NoGuard()
    world.wrap = lambda ports: seamed(replace(ports, guard=guard), steps.hook)

    def apply(given: Any) -> None:
        records = given if told["unit"] else [given]
        steps.effect("before the effect", records)
        for record in records:
            table(record)
        steps.effect("after the effect", records)

    function = UserFunction(apply=apply, unit=told["unit"], check=table.check_of(told["unit"]))
    reference = CheckReference(path=told["group"], batch=told["unit"], effect_timeout_s=0.0)
    world.run("dag.task", function, Until(to_end=False), owner="dag/run/task", check=reference).join(60)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
