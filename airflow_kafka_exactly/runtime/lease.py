"""Keeps a life's lease, and tells everybody in this process how long the life may be trusted."""

from __future__ import annotations

from airflow_kafka_exactly.errors import Fenced, Unavailable
from airflow_kafka_exactly.ports import Clock, EffectGuard, MemberLedger
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.trust import TrustWindow
from airflow_kafka_exactly.runtime.background import Background
from airflow_kafka_exactly.settings import LeaseSettings

GUARD_SLACK_S = 0.5
"""The guard kills so long after the trust window, so that a life which only waits for its lease is not killed."""
RETRY_S = 0.5


class LeaseKeeper:
    def __init__(
        self,
        ledger: MemberLedger,
        settings: LeaseSettings,
        clock: Clock,
        guard: EffectGuard,
        background: Background,
    ) -> None:
        self._ledger, self._settings, self._clock = ledger, settings, clock
        self._guard, self._background = guard, background
        self._trust = TrustWindow(settings.trust_s)
        self.due_at = float("inf")

    def opened(self, asked_at: float) -> None:
        """The life was opened, with a first lease, by a question asked at `asked_at`."""
        self._renewed(asked_at)
        self.due_at = self._clock.now() + self._settings.renew_every_s

    def trusted(self) -> bool:
        return self._trust.open(self._clock.now())

    def await_trust(self) -> None:
        """Start nothing until the ledger has answered again (S1)."""
        while not self.trusted():
            self._background.pause(0.05)

    # -- in a thread that all lives of the process share

    def due_in_s(self) -> float:
        return self.due_at - self._clock.now()

    def renew(self, life: Life) -> bool:
        """Once. False: never again, because the member stops, or `Fenced` has ended it for good."""
        if self._background.stopping.is_set():
            return False
        pause_s = self._settings.renew_every_s
        try:
            self._renew(life)
        except Unavailable:
            pause_s = RETRY_S
        except BaseException as failure:  # noqa: BLE001 - handed to the member's own thread, which raises it
            self._background.fail(failure)
            return False
        self.due_at = self._clock.now() + pause_s
        return True

    def _renew(self, life: Life) -> None:
        asked_at = self._clock.now()
        try:
            self._ledger.renew(life, self._settings.lease_s)
        except Fenced:
            self._trust.close()
            raise
        self._renewed(asked_at)

    def _renewed(self, asked_at: float) -> None:
        self._trust.renewed(asked_at)
        self._guard.trusted_until(self._trust.ends_at + GUARD_SLACK_S)
