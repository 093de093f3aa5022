"""Airflow's own runner of triggers, without the supervisor that it asks for them: they are put into its queue instead."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter, deque
from datetime import timedelta
from typing import Any

from airflow._shared.timezones import timezone
from airflow.executors import workloads
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.triggers.base import BaseTrigger

from airflow_kafka_exactly.triggers import ConsumeTrigger

ROUND_S, TICK_S, OPEN_EVERY_S, DUE_EVERY_S, DUE_IN_S = 1.0, 0.01, 0.1, 0.5, 3.0


class Events(deque[Any]):
    """The runner's, each with the time it came at."""

    def append(self, entry: Any) -> None:
        super().append((time.time(), entry))


class Runner(TriggerRunner):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.events: Events = Events()
        self.running: dict[int, BaseTrigger] = {}
        self._number = 0

    def add(self, trigger: type[BaseTrigger], arguments: dict[str, Any]) -> int:
        """As the supervisor does when it reads a new row."""
        self._number += 1
        self.to_create.append(
            workloads.RunTrigger(
                id=self._number,
                classpath=f"{trigger.__module__}.{trigger.__qualname__}",
                encrypted_kwargs=Trigger.encrypt_kwargs(arguments),
            )
        )
        return self._number

    async def run_trigger(self, trigger_id: int, trigger: BaseTrigger, *more: Any, **named: Any) -> None:
        self.running[trigger_id] = trigger
        try:
            await super().run_trigger(trigger_id, trigger, *more, **named)
        finally:
            del self.running[trigger_id]

    async def rounds(self) -> None:
        """The runner's own loop, once a second."""
        while not self.stop:
            await self.cleanup_finished_triggers()
            await self.create_triggers()
            await self.cancel_triggers()
            await asyncio.sleep(ROUND_S)

    def waiting(self) -> int:
        """Our triggers whose consumer is a member of its group and has been told its partitions."""
        consuming = [one for one in self.running.values() if isinstance(one, ConsumeTrigger)]
        return sum(map(_waits, consuming))


def _waits(trigger: ConsumeTrigger) -> bool:
    membership = trigger._waiter and trigger._waiter._membership  # noqa: SLF001 - nobody else asks
    poller = getattr(membership, "poller", None)
    return bool(poller and poller.hand.partitions())


class Neighbours:
    """Triggers of others: some that are due at a moment, and one that opens a connection again and again."""

    def __init__(self, runner: Runner, port: int) -> None:
        self._runner, self._port = runner, port
        self.due: dict[int, float] = {}
        self.opened: Counter[str] = Counter()
        self.delays: list[float] = []

    async def go_on(self) -> None:
        await asyncio.gather(self._start_moments(), self._open(), self._tick())

    async def _start_moments(self) -> None:
        while True:
            moment = timezone.utcnow() + timedelta(seconds=DUE_IN_S)
            self.due[self._runner.add(DateTimeTrigger, {"moment": moment})] = moment.timestamp()
            await asyncio.sleep(DUE_EVERY_S)

    async def _open(self) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as refused:
                self.opened[errno.errorcode.get(refused.errno or 0, str(refused))] += 1
            else:
                self.opened["well"] += 1
                writer.close()
                await writer.wait_closed()
            await asyncio.sleep(OPEN_EVERY_S)

    async def _tick(self) -> None:
        at = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            self.delays.append(now - at - TICK_S)
            at = now

    def late(self) -> list[float]:
        """Seconds by which each moment's event came after it, of those that have come; and of those that have not, until now.
        Airflow's trigger looks once a second when the moment is near."""
        came = {entry.trigger_id: at for at, entry in self._runner.events}
        now = time.time()
        return [
            max(0.0, came.get(number, now) - moment) for number, moment in self.due.items() if moment < now
        ]

    def forget(self) -> None:
        """What was: a new part of the run begins. Moments that are still to come stay."""
        now = time.time()
        self.due = {number: moment for number, moment in self.due.items() if moment >= now}
        self.opened.clear()
        self.delays.clear()

    def said(self) -> dict[str, Any]:
        delays, late = sorted(self.delays), sorted(self.late())
        return {
            "fired": len(late),
            "late_max_s": late[-1] if late else None,
            "opened": dict(self.opened),
            "loop_p99_s": delays[int(len(delays) * 0.99)] if delays else None,
            "loop_max_s": delays[-1] if delays else None,
        }
