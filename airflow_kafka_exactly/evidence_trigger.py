"""Waits in the triggerer until a doubt can be judged: leases over, effects surely ended, or settled by somebody else."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_kafka_exactly.triggers import in_a_thread


class EvidenceTrigger(BaseTrigger):
    """Yields one event when one of the doubts can be judged, or after `wait_at_most_s` seconds; with the ones that still wait.

    The event holds all that the task needs: `{"doubts": [ids], "waiting": {id: why}}`, or `{"error", "final"}`.
    """

    def __init__(self, doubts: Sequence[int], wait_at_most_s: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of Airflow
        self.doubts, self.wait_at_most_s = list(doubts), wait_at_most_s
        self._stop = threading.Event()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow_kafka_exactly.evidence_trigger.EvidenceTrigger",
            {"doubts": self.doubts, "wait_at_most_s": self.wait_at_most_s},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(await in_a_thread(self._wait, "kafka-exactly-evidence"))

    async def cleanup(self) -> None:
        self._stop.set()

    def _wait(self) -> dict[str, Any]:
        """The client of PostgreSQL is imported here, not in the triggerer's loop."""
        from airflow_kafka_exactly.triggered import await_ripeness

        return await_ripeness(self.doubts, self.wait_at_most_s, self._stop)
