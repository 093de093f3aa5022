"""What every fault needs to aim, and the supervisor that starts again what has ended, as systemd or Kubernetes would."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from demo.books import LifeRow, pid_of
from demo.scene import Scene, guards_of
from localstack import Service
from localstack.process import start_time

from chaos.observing import WORLD_ERRORS, Observer
from chaos.producing import Producing
from chaos.stack import ChaosStack

_LAUNCH_EVERY_SECONDS = 5.0
_HANGS_AFTER_SECONDS = 40.0
_REPAIR_EVERY_SECONDS = 15.0
_ENDED = ("failed", "upstream_failed", "skipped", "removed", "success")


@dataclass(frozen=True, slots=True)
class Hit:
    """What a fault has hit, and how it ends; without ``heal`` it is over at once."""

    target: str
    heal: Callable[[], None] | None = None
    busy: tuple[str, ...] = ()
    """What nobody else may hit meanwhile: names of services and of links, ``pid N`` of processes."""


@dataclass(slots=True)
class Stage:
    scene: Scene
    stack: ChaosStack
    observer: Observer
    producing: Producing
    busy: set[str] = field(default_factory=set)
    failed_tasks: list[str] = field(default_factory=list)
    """Member tasks that ended although they should run forever; cleared, as a person would."""
    relaunched: int = 0
    _launched: dict[str, float] = field(default_factory=dict)
    _repaired: float = 0.0

    def workers(self) -> list[LifeRow]:
        """Lives of running worker processes that no fault has hit yet, in an order that does not depend on chance."""
        lives = sorted(self.scene.books.lives().values(), key=lambda life: life.slot)
        return [
            life
            for life in lives
            if life.kind == "worker" and self.whole(life) and start_time(pid_of(life.process))
        ]

    def whole(self, life: LifeRow) -> bool:
        return f"pid {pid_of(life.process)}" not in self.busy

    def supervise(self) -> None:
        """Start again what has ended or hangs, unless a fault wants it so."""
        for service in self.stack.services:
            if service.name in self.busy:
                continue
            since = self.observer.unhealthy_since.get(service.name)
            if service.running and since and time.monotonic() - since > _HANGS_AFTER_SECONDS:
                self.scene.say(f"         {service.name} hangs: ended by the supervisor")
                self.observer.unhealthy_since.pop(service.name, None)
                service.kill()
            if not service.running:
                self._launch(service)

    def _launch(self, service: Service) -> None:
        if service in self.stack.airflow.services and not self.stack.postgres.running:
            return  # it would only end again
        now = time.monotonic()
        if now - self._launched.get(service.name, 0.0) < _LAUNCH_EVERY_SECONDS:
            return
        self._launched[service.name] = now
        service.kill()  # what an ended one left behind: a runner of a triggerer, say
        service.launch()
        self.relaunched += 1

    def repair(self) -> None:
        """Clear member tasks that have ended: they should run for ever, so a person would."""
        if time.monotonic() - self._repaired < _REPAIR_EVERY_SECONDS:
            return
        self._repaired = time.monotonic()
        try:
            for task in self.scene.api.tasks(self.scene.dag):
                if task["state"] in _ENDED:
                    what = f"{task['task_id']}[{task['map_index']}] try {task['try_number']} {task['state']}"
                    self.failed_tasks.append(what)
                    self.scene.say(f"         task {what}: cleared, as a person would")
                    self.scene.api.clear(task)
        except WORLD_ERRORS:
            return


def family_of(pid: int) -> tuple[list[int], int]:
    """A worker's guards, and the Airflow process that supervises it."""
    parent = 0
    with contextlib.suppress(OSError):
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return guards_of(pid), parent if parent > 1 else 0


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """To those that still run."""
    for pid in pids:
        if start_time(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
