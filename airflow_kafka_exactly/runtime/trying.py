"""One try of the user's function, and what is known afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_kafka_exactly.errors import AlreadyApplied, KafkaExactlyError
from airflow_kafka_exactly.ports import EffectGuard
from airflow_kafka_exactly.protocol.claims import Claim
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.protocol.storable import told
from airflow_kafka_exactly.runtime.function import (
    APPLIED,
    FAILURES,
    Attempt,
    RanNothing,
    Tried,
    UserFunction,
)
from airflow_kafka_exactly.runtime.lease import LeaseKeeper
from airflow_kafka_exactly.runtime.shared import Shared

PAUSE_S = 0.2
"""A wait looks so often whether the claim is still to be run."""


class Trier:
    """Used on the user's thread. `begun`: an effect may be under way or there, and nobody has taken note of it."""

    def __init__(
        self, shared: Shared, function: UserFunction, lease: LeaseKeeper, guard: EffectGuard
    ) -> None:
        self._of, self._function, self._lease, self._guard = shared, function, lease, guard
        self.begun = False

    def attempt(self, claim: Claim, records: Sequence[Record], stop: int, ours: Callable[[], bool]) -> Tried:
        """One try and, where it raised, what the check says. Its "yes" counts at once; its "no" only after `effect_timeout_s`,
        because a call that timed out here may still be under way in the target (section 6)."""
        try:
            tried = self._guarded(claim, records, stop)
        finally:
            # Once more: the task's time-out may have come just before `_guarded` did it, and an armed guard kills an idle worker.
            self._guard.end()
        if tried.attempt is Attempt.UNKNOWN:
            tried = Tried(self._asked(records, ours), tried.reason)
        if tried.attempt is Attempt.NOT_APPLIED:
            self.begun = False
        return tried

    def _asked(self, records: Sequence[Record], ours: Callable[[], bool]) -> Attempt:
        answer, timeout_s = self._function.ask(records), self._of.settings.effect_timeout_s
        if answer is not Attempt.NOT_APPLIED or timeout_s <= 0:
            return answer
        ripe_at = self._of.clock.now() + timeout_s
        while (left_s := ripe_at - self._of.clock.now()) > 0:
            if not ours():  # a revoke does not wait for it: the record is a doubt, which evidence decides
                return Attempt.UNKNOWN
            self._of.background.pause(min(left_s, PAUSE_S))
        return self._function.ask(records)

    def _guarded(self, claim: Claim, records: Sequence[Record], stop: int) -> Tried:
        """One try, only inside the trust window, watched by the guard from before the look at it (S1 c)."""
        guard, lease = self._guard, self._lease
        try:
            guard.begin()
            while not lease.trusted():
                guard.end()
                lease.await_trust()
                guard.begin()
            if self._function.in_ledger:
                return self._in_ledger(claim, records, stop)
            self.begun = True
            return self._function.external(records)
        except RanNothing as nothing:
            if nothing.proven:
                self.begun = False
            raise
        finally:
            guard.end()

    def _in_ledger(self, claim: Claim, records: Sequence[Record], stop: int) -> Tried:
        """Effect and applied mark in one transaction: an exception rolls both back, which is proof. A lost ledger says nothing
        about the record, nor does a deadlock or a lock that others hold, so that is no try: the same transaction is asked for
        again, and says when it was there already."""
        try:
            return self._of.background.persist(lambda: self._transaction(claim, records, stop), "the effect")
        except AlreadyApplied:
            return APPLIED

    def _transaction(self, claim: Claim, records: Sequence[Record], stop: int) -> Tried:
        failure: list[str] = []
        try:
            with self._of.ledger.effect_transaction(self._of.life, claim.claim_id, stop) as cursor:
                try:
                    self._function.with_cursor(records, cursor)
                except KafkaExactlyError:
                    raise
                except FAILURES as raised:
                    failure.append(told(raised))
                    raise
        except KafkaExactlyError:
            raise
        except FAILURES:
            if not failure:
                raise
            return Tried(Attempt.NOT_APPLIED, failure[0])
        return APPLIED
