"""The threads of a process that renew its lives' leases: one for a worker, a few for hundreds of waiting members."""

from __future__ import annotations

import threading

from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.runtime.lease import LeaseKeeper

THREADS_AT_MOST = 4
"""A renewal takes some milliseconds; with one thread a ledger that takes 100 would let three hundred leases end."""
FORGET_S = 5.0
DUE_S = 0.001
"""Less is not waited for: two clocks that differ in their last digit would be compared again and again."""


class Renewals:
    """Threads start with the lives and end with the last one. A process may fork before the first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lives: dict[LeaseKeeper, Life] = {}
        self._renewing: list[LeaseKeeper] = []
        self._threads = 0

    def keep(self, lease: LeaseKeeper, life: Life) -> None:
        """Renew it when it is due, until it is over or forgotten."""
        with self._changed:
            self._lives[lease] = life
            if self._threads < min(THREADS_AT_MOST, len(self._lives)):
                self._threads += 1
                threading.Thread(
                    target=self._run, name=f"kafka-exactly-lease-{self._threads}", daemon=True
                ).start()
            self._changed.notify_all()

    def forget(self, lease: LeaseKeeper) -> None:
        """Afterwards it is not renewed any more, unless the ledger takes longer than `FORGET_S` for the last answer."""
        with self._changed:
            self._lives.pop(lease, None)
            self._changed.notify_all()
            self._changed.wait_for(lambda: lease not in self._renewing, FORGET_S)

    def _run(self) -> None:
        while (due := self._next()) is not None:
            lease, life = due
            goes_on = lease.renew(life)
            with self._changed:
                self._renewing.remove(lease)
                if not goes_on:
                    self._lives.pop(lease, None)
                self._changed.notify_all()

    def _next(self) -> tuple[LeaseKeeper, Life] | None:
        """Waits for it; None when there is nothing left to do."""
        with self._changed:
            while self._lives:
                idle = [lease for lease in self._lives if lease not in self._renewing]
                first = min(idle, key=lambda lease: lease.due_at, default=None)
                left_s = None if first is None else first.due_in_s()
                if first is not None and left_s is not None and left_s <= DUE_S:
                    self._renewing.append(first)
                    return first, self._lives[first]
                self._changed.wait(left_s)
            self._threads -= 1
            return None
