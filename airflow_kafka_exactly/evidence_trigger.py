"""Waits in the triggerer until doubts can be judged: leases over, effects surely ended, or settled by somebody else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_kafka_exactly import hooks, wiring
from airflow_kafka_exactly.errors import ConfigurationError, KafkaExactlyError, Unavailable
from airflow_kafka_exactly.ports import EvidenceLedger
from airflow_kafka_exactly.runtime.evidence import waits
from airflow_kafka_exactly.settings import LedgerSettings
from airflow_kafka_exactly.triggers import in_a_thread

log = logging.getLogger(__name__)
LOOK_AT_LEAST_EVERY_S = 2.0
LOOK_AT_MOST_EVERY_S = 0.25


class EvidenceTrigger(BaseTrigger):
    """Yields one event when each doubt can be judged, or after `wait_at_most_s` seconds with the ones that still wait.

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
        event: dict[str, Any] = {"doubts": self.doubts}
        try:
            settings = await hooks.aledger_settings()
            event["waiting"] = await in_a_thread(lambda: self._serve(settings), "kafka-exactly-evidence")
        except KafkaExactlyError as error:
            event |= {"error": str(error), "final": isinstance(error, ConfigurationError)}
        yield TriggerEvent(event)

    async def cleanup(self) -> None:
        self._stop.set()

    def _serve(self, settings: LedgerSettings) -> dict[str, str]:
        with wiring.shared_ledger(settings) as ledgers:
            return wait_until_ripe(ledgers.evidence, self.doubts, self.wait_at_most_s, self._stop)


def wait_until_ripe(
    ledger: EvidenceLedger, doubts: Sequence[int], wait_at_most_s: float, stop: threading.Event
) -> dict[str, str]:
    """Block until no doubt waits, or the time is up, or told to stop; returns the ones that still wait, and why."""
    ends_at, waiting = time.monotonic() + wait_at_most_s, {}
    while True:
        pause_s = LOOK_AT_LEAST_EVERY_S
        try:
            waiting = waits(ledger, doubts)
        except Unavailable as outage:
            log.warning("evidence waits: %s", outage)
        else:
            if not waiting:
                return {}
            known = [w.for_s for w in waiting.values() if w.for_s is not None]
            pause_s = min([LOOK_AT_LEAST_EVERY_S, *known])
        left_s = ends_at - time.monotonic()
        if left_s <= 0 or stop.wait(min(max(pause_s, LOOK_AT_MOST_EVERY_S), left_s)):
            return {str(doubt_id): wait.why for doubt_id, wait in waiting.items()}
