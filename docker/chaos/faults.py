"""Faults of processes: killed, frozen, restarted.

Each takes the stage and a number in [0, 1) to choose with, and returns what it hit: None when there was nothing to hit.
"""

import signal
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from demo.books import LifeRow, pid_of
from localstack import Service

from chaos.stage import Hit, Stage, family_of, signal_all

T = TypeVar("T")
Strike = Callable[[Stage, float], Hit | None]
_GUARD_LOOKS_SECONDS = 0.3


def choose(candidates: Sequence[T], choice: float) -> T | None:
    return candidates[int(choice * len(candidates))] if candidates else None


# -- workers -----------------------------------------------------------------------------------------------------------


def kill_worker(stage: Stage, choice: float) -> Hit | None:
    life = choose(stage.workers(), choice)
    if life is None:
        return None
    signal_all([pid_of(life.process)], signal.SIGKILL)
    return Hit(_words(life))


def freeze_worker(stage: Stage, choice: float) -> Hit | None:
    """Its guard runs on: it ends the worker when the trust window ends during an effect."""
    return _freeze(stage, choice, guard=False, supervisor=False)


def freeze_worker_and_guard(stage: Stage, choice: float) -> Hit | None:
    return _freeze(stage, choice, guard=True, supervisor=False)


def freeze_worker_and_all(stage: Stage, choice: float) -> Hit | None:
    """With Airflow's supervisor: the scheduler misses its heartbeats and retries the task elsewhere."""
    return _freeze(stage, choice, guard=True, supervisor=True)


def _freeze(stage: Stage, choice: float, *, guard: bool, supervisor: bool) -> Hit | None:
    life = choose(stage.workers(), choice)
    if life is None:
        return None
    pid = pid_of(life.process)
    guards, parent = family_of(pid)
    others = [parent] if supervisor and parent else []
    frozen = [*others, *(guards if guard else []), pid]
    signal_all(frozen, signal.SIGSTOP)

    def wake() -> None:
        """The guard first: that it looks before the worker goes on is what S1 (c) assumes about time."""
        if guard:
            signal_all(guards, signal.SIGCONT)
            time.sleep(_GUARD_LOOKS_SECONDS)
        signal_all([pid, *others], signal.SIGCONT)

    what = ["worker", *(["guard"] if guard else []), *(["supervisor"] if others else [])]
    return Hit(f"{_words(life)}: {' and '.join(what)}", wake, (f"pid {pid}",))


def _words(life: LifeRow) -> str:
    return f"{life.slot.rpartition('.')[2]} life {life.incarnation}, process {pid_of(life.process)}"


# -- hosts -------------------------------------------------------------------------------------------------------------


def kill_triggerer(stage: Stage, choice: float) -> Hit | None:
    return _kill(stage, stage.stack.airflow.triggerers, choice)


def freeze_triggerer(stage: Stage, choice: float) -> Hit | None:
    return _stop_clock(stage, stage.stack.airflow.triggerers, choice)


def kill_coordinator(stage: Stage, choice: float) -> Hit | None:
    return _kill(stage, [stage.stack.airflow.coordinator], choice)


def freeze_coordinator(stage: Stage, choice: float) -> Hit | None:
    return _stop_clock(stage, [stage.stack.airflow.coordinator], choice)


def kill_leader(stage: Stage, choice: float) -> Hit | None:
    return _kill(stage, _leader(stage), choice)


def freeze_leader(stage: Stage, choice: float) -> Hit | None:
    return _stop_clock(stage, _leader(stage), choice)


def kill_scheduler(stage: Stage, choice: float) -> Hit | None:  # noqa: ARG001 - there is one
    """The process alone: the workers it had started go on, while its successor starts their tasks once more."""
    scheduler = stage.stack.airflow.scheduler
    if not _whole(stage, [scheduler]):
        return None
    signal_all([scheduler.pid], signal.SIGKILL)
    return Hit(f"scheduler, process {scheduler.pid}")


def kill_api_server(stage: Stage, choice: float) -> Hit | None:
    return _kill(stage, [stage.stack.airflow.api_server], choice)


# -- services ----------------------------------------------------------------------------------------------------------


def kill_kafka(stage: Stage, choice: float) -> Hit | None:
    return _kill(stage, [stage.stack.kafka], choice)


def restart_kafka(stage: Stage, choice: float) -> Hit | None:
    return _end(stage, [stage.stack.kafka], choice)


def kill_zookeeper(stage: Stage, choice: float) -> Hit | None:
    return _kill(stage, stage.stack.ensemble, choice)


def restart_zookeeper(stage: Stage, choice: float) -> Hit | None:
    return _end(stage, stage.stack.ensemble, choice)


def kill_postgres(stage: Stage, choice: float) -> Hit | None:
    return _kill(stage, [stage.stack.postgres], choice)


def restart_postgres(stage: Stage, choice: float) -> Hit | None:
    return _end(stage, [stage.stack.postgres], choice)


def _whole(stage: Stage, services: Sequence[Service]) -> list[Service]:
    return [service for service in services if service.running and service.name not in stage.busy]


def _leader(stage: Stage) -> list[Service]:
    port = int(stage.scene.books.leader()[1].rpartition(":")[2] or 0)
    found = stage.stack.contenders.get(port)
    return [found] if found else []


def _kill(stage: Stage, services: Sequence[Service], choice: float) -> Hit | None:
    """SIGKILL; the supervisor starts it again when the fault's time is over."""
    hit = choose(_whole(stage, services), choice)
    if hit is None:
        return None
    words = f"{hit.name}, process {hit.pid}"
    hit.kill()
    return Hit(words, hit.launch, (hit.name,))


def _end(stage: Stage, services: Sequence[Service], choice: float) -> Hit | None:
    hit = choose(_whole(stage, services), choice)
    if hit is None:
        return None
    words = f"{hit.name}, process {hit.pid}"
    hit.stop()
    return Hit(words, hit.launch, (hit.name,))


def _stop_clock(stage: Stage, services: Sequence[Service], choice: float) -> Hit | None:
    hit = choose(_whole(stage, services), choice)
    if hit is None:
        return None
    hit.freeze()
    return Hit(f"{hit.name}, process {hit.pid}", hit.thaw, (hit.name,))
