"""Runs claims: started → effect → applied (S3), in offset order, and gives back what it need not begin.

`started` is written ahead for a window of records, `applied` behind them, both in one round trip for each window. What
happens between two marks is all that a crash leaves uncertain.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_kafka_exactly.errors import AlreadyApplied, Fenced, KafkaExactlyError
from airflow_kafka_exactly.ports import EffectGuard
from airflow_kafka_exactly.protocol.claims import Claim, Mark
from airflow_kafka_exactly.protocol.record import (
    FencingToken,
    Partition,
    RawRecord,
    Record,
    as_polled,
    seen_by_user,
)
from airflow_kafka_exactly.protocol.storable import told
from airflow_kafka_exactly.protocol.unreadable import why_unreadable
from airflow_kafka_exactly.protocol.window import WindowSize
from airflow_kafka_exactly.runtime.function import APPLIED, Attempt, RanNothing, Tried, UserFunction
from airflow_kafka_exactly.runtime.lease import LeaseKeeper
from airflow_kafka_exactly.runtime.shared import Shared

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InHand:
    """The records whose effect may have begun, and where the next one starts."""

    records: Sequence[Record]
    stop: int


@dataclass(frozen=True, slots=True)
class Work:
    """A claim with its records, and whether its partition is still ours (asked before each record)."""

    claim: Claim
    records: tuple[RawRecord, ...]
    ours: Callable[[], bool]


class Runner:
    """Runs the claims of one life, on the user's thread. `on_frontier` is told what each mark's answer says."""

    def __init__(
        self,
        shared: Shared,
        function: UserFunction,
        lease: LeaseKeeper,
        guard: EffectGuard,
        on_frontier: Callable[[dict[Partition, int], Claim], None],
    ) -> None:
        self._of, self._function, self._lease, self._guard = shared, function, lease, guard
        self._on_frontier = on_frontier
        self._window, self._max_attempts = WindowSize(shared.settings.window_s), shared.settings.max_attempts
        self._decided_to = -1
        """In the claim that runs: the stop of the last range that became a doubt or dead letter and so was cut out of it."""
        self._applied = 0
        """In the claim that runs: the stop of what is applied or decided."""
        self._in_hand: InHand | None = None

    def run(self, work: Work) -> None:
        """Run one claim to its end, or give the rest of it back. `Fenced` when it is no longer open."""
        self._decided_to, self._applied, self._in_hand = -1, work.claim.range.start, None
        try:
            self._run(work)
        except Fenced:
            raise  # nothing of this claim can be written any more
        except BaseException as stopped:  # also a time-out of the task, which comes as a signal and anywhere
            self._leave(work.claim, stopped)
            raise

    def _run(self, work: Work) -> None:
        if not work.records:
            self._mark(work.claim, work.claim.range.stop, work.claim.range.stop)
        elif (why := why_unreadable(work.records[0])) is not None:
            self._bury_unread(work.claim, work.records, why)
        elif self._function.unit:
            self._run_unit(work)
        else:
            self._run_records(work)

    # -- one record after the other

    def _run_records(self, work: Work) -> None:
        claim, done = work.claim, 0
        while done < len(work.records):
            ahead = work.records[done : done + self._window.records]
            self._of.background.check()
            if not work.ours():
                break
            if not self._function.in_ledger:
                last = done + len(ahead) == len(work.records)
                self._mark(claim, claim.range.stop if last else ahead[-1].offset + 1, self._applied)
            since = self._of.clock.now()
            ran = self._run_window(work, ahead)
            self._window.measured(ran, self._of.clock.now() - since)
            done += ran
            if ran < len(ahead):
                break
        self._finish(work, done)

    def _run_window(self, work: Work, ahead: Sequence[RawRecord]) -> int:
        """How many of the records were dealt with."""
        stopping = self._of.background.stopping
        for ran, record in enumerate(self._seen(work.claim, ahead)):
            if not work.ours() or stopping.is_set():
                return ran
            self._deal_with(work.claim, (record,), record.offset + 1)
        return len(ahead)

    def _seen(self, claim: Claim, raws: Sequence[RawRecord]) -> list[Record]:
        token = FencingToken(claim.claim_id, claim.life.incarnation)
        return seen_by_user(raws, claim.partition, self._of.cluster_id, token)

    def _finish(self, work: Work, done: int) -> None:
        """The last applied mark; what was not begun is given back (a revoked partition, or the end of this run)."""
        claim = work.claim
        if done == len(work.records):
            if self._left_open(claim, work.records[-1]):
                self._mark(claim, claim.range.stop, claim.range.stop)
            return
        self._mark(claim, self._applied, self._applied)
        self._of.background.persist(
            lambda: self._of.ledger.give_back(self._of.life, claim.claim_id, self._applied), "giving back"
        )

    def _left_open(self, claim: Claim, last: RawRecord) -> bool:
        """Whether a part of the claim is left to mark: a doubt or dead letter at its very end has ended it."""
        return not (self._decided_to == claim.range.stop == last.offset + 1)

    # -- a batch function: one start, one mark, one check

    def _run_unit(self, work: Work) -> None:
        claim = work.claim
        self._of.background.check()
        if not work.ours():
            self._of.background.persist(
                lambda: self._of.ledger.give_back(self._of.life, claim.claim_id, claim.range.start),
                "giving back",
            )
            return
        if not self._function.in_ledger:
            self._mark(claim, claim.range.stop, claim.range.start)
        self._deal_with(claim, self._seen(claim, work.records), claim.range.stop)
        if self._decided_to != claim.range.stop:
            self._mark(claim, claim.range.stop, claim.range.stop)

    # -- one effect

    def _deal_with(self, claim: Claim, records: Sequence[Record], stop: int) -> None:
        """Try until it is applied, in doubt, or a dead letter."""
        attempts = 1
        while (tried := self._try(claim, records, stop)).attempt is Attempt.NOT_APPLIED:
            if attempts == self._max_attempts:
                self._bury(claim, records, stop, tried.reason)
                return
            attempts += 1
            self._of.summary.count("retried")
        if tried.attempt is Attempt.APPLIED:
            self._settled(stop)
            self._of.summary.count("redone" if claim.doubt_id else "applied", len(records))
        else:
            self._doubt(claim, records, stop, tried.reason)

    def _settled(self, stop: int) -> None:
        """What is applied or decided is in hand no more."""
        self._applied, self._in_hand = stop, None

    def _try(self, claim: Claim, records: Sequence[Record], stop: int) -> Tried:
        """One try and, where it raised, what the check says. Its "yes" counts at once; its "no" only after `effect_timeout_s`,
        because a call that timed out here may still be under way in the target (section 6)."""
        tried = self._guarded(claim, records, stop)
        if tried.attempt is Attempt.UNKNOWN:
            tried = Tried(self._asked(records), tried.reason)
        if tried.attempt is Attempt.NOT_APPLIED:
            self._in_hand = None
        return tried

    def _asked(self, records: Sequence[Record]) -> Attempt:
        answer, timeout_s = self._function.ask(records), self._of.settings.effect_timeout_s
        if answer is not Attempt.NOT_APPLIED or timeout_s <= 0:
            return answer
        self._of.background.pause(timeout_s)
        return self._function.ask(records)

    def _guarded(self, claim: Claim, records: Sequence[Record], stop: int) -> Tried:
        """One try, only inside the trust window, watched by the guard from before the look at it (S1 c)."""
        guard, lease = self._guard, self._lease
        guard.begin()
        try:
            while not lease.trusted():
                guard.end()
                lease.await_trust()
                guard.begin()
            if self._function.in_ledger:
                return self._in_ledger(claim, records, stop)
            self._in_hand = InHand(records, stop)
            return self._function.external(records)
        except RanNothing as nothing:
            if nothing.proven:
                self._in_hand = None
            raise
        finally:
            guard.end()

    def _in_ledger(self, claim: Claim, records: Sequence[Record], stop: int) -> Tried:
        """Effect and applied mark in one transaction: an exception rolls both back, which is proof. A lost ledger proves nothing
        about the record, so that is no try: the same transaction is asked for again, and says when it was there already."""
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
                except Exception as raised:
                    failure.append(told(raised))
                    raise
        except Exception:
            if not failure:
                raise
            return Tried(Attempt.NOT_APPLIED, failure[0])
        return APPLIED

    # -- ledger writes

    def _leave(self, claim: Claim, why: BaseException) -> None:
        """The run ends in the middle: only the records in hand may have begun, all others are known. They are doubts (S7; with
        `effect="ledger"` nothing is in hand, a rollback is proof), what lies below is applied, the rest is given back. Each is
        asked for once, without waiting: what is not written here, the fence finds out."""
        ledger, life, hand = self._of.ledger, self._of.life, self._in_hand
        try:
            if hand is not None and hand.stop > self._applied:
                reason = f"interrupted by {told(why)}"
                frontier = ledger.raise_doubt(life, claim, as_polled(hand.records), hand.stop, reason)
                self._decided(claim, hand.stop, frontier, "raised", len(hand.records))
            elif self._applied > claim.range.start and self._decided_to != self._applied:
                mark = Mark(claim.claim_id, self._applied, self._applied)
                self._on_frontier(dict(ledger.mark(life, [mark])), claim)
            ledger.give_back(life, claim.claim_id, self._applied)
        except Exception as failure:  # noqa: BLE001 - the reason for the end must not be replaced by this one
            log.warning("%s: not all was given back: %s", claim.partition, failure)

    def _mark(self, claim: Claim, started: int, applied: int) -> None:
        mark = Mark(claim.claim_id, started, applied)
        frontiers = self._of.background.persist(
            lambda: self._of.ledger.mark(self._of.life, [mark]), "writing marks"
        )
        self._on_frontier(dict(frontiers), claim)

    def _doubt(self, claim: Claim, records: Sequence[Record], stop: int, reason: str) -> None:
        raws = as_polled(records)
        frontier = self._of.background.persist(
            lambda: self._of.ledger.raise_doubt(self._of.life, claim, raws, stop, reason), "raising a doubt"
        )
        self._decided(claim, stop, frontier, "raised", len(raws))

    def _bury_unread(self, claim: Claim, records: Sequence[RawRecord], why: str) -> None:
        """Nothing of it has begun: no attempt was made. It is alone in its claim."""
        assert len(records) == 1, "S7: nothing is buried together with a record that cannot be read"
        reason = f"{claim.partition} offset {records[0].offset}: {why}"
        log.error("a dead letter: %s", reason)
        frontier = self._of.background.persist(
            lambda: self._of.ledger.bury(self._of.life, claim, records, claim.range.stop, reason, 0),
            "burying",
        )
        self._decided(claim, claim.range.stop, frontier, "dead_letters", 1)

    def _bury(self, claim: Claim, records: Sequence[Record], stop: int, reason: str) -> None:
        raws = as_polled(records)
        frontier = self._of.background.persist(
            lambda: self._of.ledger.bury(self._of.life, claim, raws, stop, reason, self._max_attempts),
            "burying",
        )
        self._decided(claim, stop, frontier, "dead_letters", len(raws))

    def _decided(self, claim: Claim, stop: int, frontier: int, what: str, records: int) -> None:
        self._decided_to = stop
        self._settled(stop)
        self._of.summary.count(what, records)
        self._on_frontier({claim.partition: frontier}, claim)
