"""Runs claims: started → effect → applied (S3), in offset order, and gives back what it need not begin.

`started` is written ahead for a window of records, `applied` behind them, both in one round trip for each window. What
happens between two marks is all that a crash leaves uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_kafka_exactly.errors import AlreadyApplied, KafkaExactlyError
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
from airflow_kafka_exactly.protocol.window import WindowSize
from airflow_kafka_exactly.runtime.function import APPLIED, Attempt, Tried, UserFunction
from airflow_kafka_exactly.runtime.lease import LeaseKeeper
from airflow_kafka_exactly.runtime.shared import Shared


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

    def run(self, work: Work) -> None:
        """Run one claim to its end, or give the rest of it back. `Fenced` when it is no longer open."""
        self._decided_to = -1
        if not work.records:
            self._mark(work.claim, work.claim.range.stop, work.claim.range.stop)
        elif self._function.unit:
            self._run_unit(work)
        else:
            self._run_records(work)

    # -- one record after the other

    def _run_records(self, work: Work) -> None:
        claim, done, applied = work.claim, 0, work.claim.range.start
        while done < len(work.records):
            ahead = work.records[done : done + self._window.records]
            self._of.background.check()
            if not work.ours():
                break
            if not self._function.in_ledger:
                last = done + len(ahead) == len(work.records)
                self._mark(claim, claim.range.stop if last else ahead[-1].offset + 1, applied)
            since = self._of.clock.now()
            ran, applied = self._run_window(work, ahead, applied)
            self._window.measured(ran, self._of.clock.now() - since)
            done += ran
            if ran < len(ahead):
                break
        self._finish(work, done, applied)

    def _run_window(self, work: Work, ahead: Sequence[RawRecord], applied: int) -> tuple[int, int]:
        """How many of the records were dealt with, and the stop of what is applied or decided."""
        stopping = self._of.background.stopping
        for ran, record in enumerate(self._seen(work.claim, ahead)):
            if not work.ours() or stopping.is_set():
                return ran, applied
            self._deal_with(work.claim, (record,), record.offset + 1)
            applied = record.offset + 1
        return len(ahead), applied

    def _seen(self, claim: Claim, raws: Sequence[RawRecord]) -> list[Record]:
        token = FencingToken(claim.claim_id, claim.life.incarnation)
        return seen_by_user(raws, claim.partition, self._of.cluster_id, token)

    def _finish(self, work: Work, done: int, applied: int) -> None:
        """The last applied mark; what was not begun is given back (a revoked partition, or the end of this run)."""
        claim = work.claim
        if done == len(work.records):
            if self._left_open(claim, work.records[-1]):
                self._mark(claim, claim.range.stop, claim.range.stop)
            return
        self._mark(claim, applied, applied)
        self._of.background.persist(
            lambda: self._of.ledger.give_back(self._of.life, claim.claim_id, applied), "giving back"
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
            self._of.summary.count("redone" if claim.doubt_id else "applied", len(records))
        else:
            self._doubt(claim, records, stop, tried.reason)

    def _try(self, claim: Claim, records: Sequence[Record], stop: int) -> Tried:
        """One try and, where it raised, what the check says. Its "yes" counts at once; its "no" only after `effect_timeout_s`,
        because a call that timed out here may still be under way in the target (section 6)."""
        tried = self._guarded(claim, records, stop)
        if tried.attempt is not Attempt.UNKNOWN:
            return tried
        answer = self._function.ask(records)
        if answer is Attempt.NOT_APPLIED and self._of.settings.effect_timeout_s > 0:
            try:
                self._of.background.pause(self._of.settings.effect_timeout_s)
            except BaseException as stopped:
                self._doubt_at_the_end(claim, records, stop, stopped)
                raise
            answer = self._function.ask(records)
        return Tried(answer, tried.reason)

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
            return self._function.external(records)
        except Exception:
            raise
        except (
            BaseException
        ) as stopped:  # the task is being killed in the middle of an effect: that is no proof either
            self._doubt_at_the_end(claim, records, stop, stopped)
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
                    self._function.apply(list(records) if self._function.unit else records[0], cursor=cursor)
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

    def _doubt_at_the_end(
        self, claim: Claim, records: Sequence[Record], stop: int, why: BaseException
    ) -> None:
        if not self._function.in_ledger:
            self._of.ledger.raise_doubt(
                self._of.life, claim, as_polled(records), stop, f"interrupted by {told(why)}"
            )

    # -- ledger writes

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

    def _bury(self, claim: Claim, records: Sequence[Record], stop: int, reason: str) -> None:
        raws = as_polled(records)
        frontier = self._of.background.persist(
            lambda: self._of.ledger.bury(self._of.life, claim, raws, stop, reason, self._max_attempts),
            "burying",
        )
        self._decided(claim, stop, frontier, "dead_letters", len(raws))

    def _decided(self, claim: Claim, stop: int, frontier: int, what: str, records: int) -> None:
        self._decided_to = stop
        self._of.summary.count(what, records)
        self._on_frontier({claim.partition: frontier}, claim)
