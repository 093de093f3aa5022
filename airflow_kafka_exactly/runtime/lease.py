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

    def opened(self, asked_at: float) -> None:
        """The life was opened, with a first lease, by a question asked at `asked_at`."""
        self._renewed(asked_at)

    def trusted(self) -> bool:
        return self._trust.open(self._clock.now())

    def await_trust(self) -> None:
        """Start nothing until the ledger has answered again (S1)."""
        while not self.trusted():
            self._background.pause(0.05)

    def run(self, life: Life) -> None:
        """The thread: renew until stopped. `Fenced` ends the member for good."""
        while not self._background.stopping.wait(self._settings.renew_every_s):
            self._renew(life)

    def _renew(self, life: Life) -> None:
        while not self._background.stopping.is_set():
            asked_at = self._clock.now()
            try:
                self._ledger.renew(life, self._settings.lease_s)
            except Unavailable:
                self._background.pause(RETRY_S)
            except Fenced:
                self._trust.close()
                raise
            else:
                self._renewed(asked_at)
                return

    def _renewed(self, asked_at: float) -> None:
        self._trust.renewed(asked_at)
        self._guard.trusted_until(self._trust.ends_at + GUARD_SLACK_S)
