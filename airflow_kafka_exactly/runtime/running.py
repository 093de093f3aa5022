"""Runs claims: started → effect → applied (S3), in offset order, and gives back what it need not begin.

`started` is written ahead for a window of records, `applied` behind them, both in one round trip for each window. What
happens between two marks is all that a crash leaves uncertain.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_kafka_exactly.errors import Fenced
from airflow_kafka_exactly.ports import EffectGuard
from airflow_kafka_exactly.protocol.breaker import OPENS_AT, Breaker, History, Patience
from airflow_kafka_exactly.protocol.claims import Claim, Failing, Mark
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
from airflow_kafka_exactly.runtime.aside import Aside, Case
from airflow_kafka_exactly.runtime.function import Attempt, UserFunction
from airflow_kafka_exactly.runtime.lease import LeaseKeeper
from airflow_kafka_exactly.runtime.shared import Shared
from airflow_kafka_exactly.runtime.trying import PAUSE_S, Trier

log = logging.getLogger(__name__)
LONG_S = 5.0
"""A claim is given back before a pause that is longer: others run meanwhile, and a crash finds nothing that may have begun."""


@dataclass(frozen=True, slots=True)
class Work:
    """A claim with its records, and whether its partition is still ours (asked before each record)."""

    claim: Claim
    records: tuple[RawRecord, ...]
    ours: Callable[[], bool]


def _first(work: Work) -> int:
    """Where a claim's records begin. The gap below the first one holds nothing, so the first mark says that it is applied: it may
    be wide, and a window is judged by its records. (A unit is one, and a redo's claim is a doubt's, which has few offsets.)"""
    claim = work.claim
    whole = not work.records or claim.unit or claim.doubt_id is not None
    return claim.range.start if whole else work.records[0].offset


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
        self._of, self._function = shared, function
        self._trier = Trier(shared, function, lease, guard)
        self._on_frontier, self._chance = on_frontier, shared.chance
        settings = shared.settings
        self._window = WindowSize(settings.window_s)
        self._breaker = Breaker(
            Patience(
                max_attempts=settings.max_attempts,
                delay_s=settings.retry_delay_s,
                grace_s=settings.outage_grace_s,
            )
        )
        self._ask: Callable[[Callable[[], Any], str], Any] = shared.background.persist
        # Of the claim that runs:
        self._decided_to = -1
        """The stop of the last range that became a doubt or dead letter and so was cut out of it."""
        self._applied = 0
        """The stop of what is applied or decided."""
        self._trying: Case | None = None
        self._aside = Aside()
        self._told: dict[int, Failing] | None = None
        """What those who had the claim's records before told of them; None: not asked yet."""
        self._later = False
        """The rest is given back to be tried later."""
        self._more = False
        """Whether there are further records to try instead."""

    @property
    def resting(self) -> bool:
        """Whether what has failed is not to be tried yet."""
        return self._breaker.next_at > self._of.clock.now()

    def run(self, work: Work) -> int | None:
        """Run one claim to its end, or give the rest of it back. Returns where that begins when it is to be claimed again, once
        nothing is `resting`. `Fenced` when the claim is no longer open."""
        self._work, self._decided_to, self._applied = work, -1, _first(work)
        self._trying, self._aside, self._ask = None, Aside(), self._of.background.persist
        self._told, self._later = None, False
        try:
            self._run(work)
        except Fenced:
            raise  # nothing of this claim can be written any more
        except BaseException as stopped:  # also a time-out of the task, which comes as a signal and anywhere
            self._leave(work.claim, stopped)
            raise
        return self._applied if self._later else None

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
            self._more = not self._function.in_ledger and record.offset != work.records[-1].offset
            if not self._deal_with(work.claim, (record,), record.offset + 1):
                return ran
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
        self._give_back(claim)

    def _left_open(self, claim: Claim, last: RawRecord) -> bool:
        """Whether a part of the claim is left to mark: a doubt or dead letter at its very end has ended it."""
        return not (self._decided_to == claim.range.stop == last.offset + 1)

    # -- a batch function: one start, one mark, one check

    def _run_unit(self, work: Work) -> None:
        claim = work.claim
        self._of.background.check()
        if not work.ours():
            self._give_back(claim)
            return
        if not self._function.in_ledger:
            self._mark(claim, claim.range.stop, claim.range.start)
        self._more = False
        if not self._deal_with(claim, self._seen(claim, work.records), claim.range.stop):
            self._give_back(claim)
        elif self._decided_to != claim.range.stop:
            self._mark(claim, claim.range.stop, claim.range.stop)

    # -- one effect

    def _deal_with(self, claim: Claim, records: Sequence[Record], stop: int) -> bool:
        """Try until it is applied or in doubt, or its attempts are used up: then it is put aside until it is clear whose fault
        that is. False when the claim is to be left."""
        key, now = (claim.partition, records[0].offset, records[-1].offset), self._of.clock.now()
        suspect = self._breaker.suspect(key)
        if suspect is not None and not self._breaker.again(suspect):
            self._aside.cases.append(
                Case(records, stop, suspect)
            )  # others first: `_next_try` says when it is its turn
            return self._clear(claim)
        history = suspect or History(key=key, first_at=now, tried_at=now)
        case = Case(records, stop, history)
        while (tried := self._attempt(claim, case)) is Attempt.NOT_APPLIED:
            if not self._breaker.again(history):
                break
        if tried is None:
            return False
        if tried is Attempt.APPLIED and not self._aside.cases:
            self._settled(stop)
            return True
        self._aside.cases.append(case)
        if tried is Attempt.UNKNOWN:
            self._doubt_all(claim, case)
        return self._clear(claim)

    def _attempt(self, claim: Claim, case: Case) -> Attempt | None:
        """One try, not before the breaker's time has come. None when the claim is to be left."""
        history = case.history
        self._trying = case
        if not self._await_turn(history):
            return None
        if history.attempts:
            self._of.summary.count("retried")
        else:
            history.first_at = self._of.clock.now()
        tried = self._trier.attempt(claim, case.records, case.stop, self._work.ours)
        case.tried, case.reason, now, chance = True, tried.reason, self._of.clock.now(), self._chance()
        history.attempts, history.tried_at = history.attempts + 1, now
        case.unknown = tried.attempt is Attempt.UNKNOWN
        if tried.attempt is Attempt.APPLIED:
            self._took_effect(claim, case)
            self._breaker.succeeded(history, now)
        else:
            self._hear_of(claim, case)
            self._breaker.failed(history, now, chance, unknown=tried.attempt is Attempt.UNKNOWN)
        return tried.attempt

    def _await_turn(self, history: History) -> bool:
        """Back off, in short steps: a revoked partition, or the end of the task, does not wait for it. A long pause is not made
        here, unless a record above has been applied: what is below could not be given back."""
        while self._work.ours():
            left_s = self._breaker.wait_until(history.key) - self._of.clock.now()
            if left_s <= 0:
                return True
            if left_s > LONG_S and not self._aside.applied:
                self._later = True
                return False
            self._of.background.pause(min(left_s, PAUSE_S))
        return False

    def _hear_of(self, claim: Claim, case: Case) -> None:
        """After a record's first failure here: it may fail for longer than this member tries it (L1)."""
        history = case.history
        if history.told or case.unknown:
            return
        if self._told is None:
            told = self._ask(lambda: self._of.ledger.failing(claim), "asking what fails since when")
            self._told = {failing.offset: failing for failing in told}
        before = self._told.get(case.records[0].offset)
        history.told = True
        if before is not None and before.stop >= case.end:
            history.attempts_before = before.attempts
            history.failing_since = self._of.clock.now() - before.for_s

    def _took_effect(self, claim: Claim, case: Case) -> None:
        case.applied, self._trier.begun = True, False
        self._of.summary.count("redone" if claim.doubt_id else "applied", len(case.records))

    def _settled(self, stop: int) -> None:
        """What is applied or decided is in hand no more."""
        self._applied, self._trying, self._trier.begun = stop, None, False

    # -- what was put aside: records that were tried in vain, and those after them that were applied

    def _clear(self, claim: Claim) -> bool:
        """Settle what can be, in offset order, and go on with a new record when one of these must wait for its success."""
        cases = self._aside.cases
        while cases:
            first, alone = cases[0], len(cases) == 1 and not self._more
            if first.applied:
                self._settled(first.stop)
                del cases[0]
            elif first.tried and self._breaker.blames(first.history, alone=alone):
                self._bury(claim, first)
                del cases[0]
            else:
                case = self._next_try()
                if case is None:
                    return True
                if not self._retry(claim, case):
                    return False
        return True

    def _next_try(self) -> Case | None:
        """Which of those that were put aside; None: a new record's turn."""
        waiting = self._aside.waiting
        if self._breaker.quiet:
            return waiting[0]
        if self._more and len(waiting) < OPENS_AT:
            return None
        if not self._breaker.open:
            others = [case for case in waiting if self._breaker.suspect(case.history.key) is None]
            if others:
                return others[0]
            self._breaker.nothing_else(self._of.clock.now(), self._chance())
        return min(waiting, key=lambda case: case.history.tried_at)

    def _retry(self, claim: Claim, case: Case) -> bool:
        tried = self._attempt(claim, case)
        if tried is Attempt.UNKNOWN:
            self._doubt_all(claim, case)
        return tried is not None

    def _doubt_all(self, claim: Claim, last: Case) -> None:
        """What a doubt is written above of counts as applied: whatever is not, up to `last`, becomes a doubt too."""
        cases = self._aside.cases
        while cases:
            case = cases[0]
            if case.stop > self._applied:
                if case.applied:
                    self._settled(case.stop)
                else:
                    self._doubt(claim, case)
            del cases[0]
            if case is last:
                return

    # -- the end of a run

    def _leave(self, claim: Claim, why: BaseException) -> None:
        """The run ends in the middle: only the records in hand may have begun, all others are known. They are doubts (S7; with
        `effect="ledger"` nothing is in hand, a rollback is proof), what lies below is applied, the rest is given back. Each is
        asked for once, without waiting: what is not written here, the fence finds out."""
        self._ask = lambda ask, _: ask()
        try:
            case = self._trying
            if case is not None and case.stop > self._applied and (case.applied or self._trier.begun):
                if not case.applied and not case.unknown:
                    case.reason, case.unknown = f"interrupted by {told(why)}", True
                if case not in self._aside.cases:
                    self._aside.cases.append(case)
            unknown = [case for case in self._aside.waiting if case.unknown]
            if unknown:
                self._doubt_all(claim, unknown[-1])
            self._give_back(claim)
        except Exception as failure:  # noqa: BLE001 - the reason for the end must not be replaced by this one
            log.warning("%s: not all was given back: %s", claim.partition, failure)

    def _give_back(self, claim: Claim) -> None:
        """What was not begun, or provably had no effect. A record below one that is applied cannot be: it becomes a doubt."""
        if applied := self._aside.applied:
            self._doubt_all(claim, applied[-1])
        if self._applied > claim.range.start and self._decided_to != self._applied:
            self._mark(claim, self._applied, self._applied)
        failing = self._aside.failing(self._trying, self._of.clock.now())
        self._ask(
            lambda: self._of.ledger.give_back(self._of.life, claim.claim_id, self._applied, failing),
            "giving back",
        )

    # -- ledger writes

    def _mark(self, claim: Claim, started: int, applied: int) -> None:
        mark = Mark(claim.claim_id, started, applied)
        frontiers = self._ask(lambda: self._of.ledger.mark(self._of.life, [mark]), "writing marks")
        self._on_frontier(dict(frontiers), claim)

    def _doubt(self, claim: Claim, case: Case) -> None:
        raws = as_polled(case.records)
        frontier = self._ask(
            lambda: self._of.ledger.raise_doubt(self._of.life, claim, raws, case.stop, case.reason),
            "raising a doubt",
        )
        self._decided(claim, case.stop, frontier, "raised", len(raws))

    def _bury_unread(self, claim: Claim, records: Sequence[RawRecord], why: str) -> None:
        """Nothing of it has begun: no attempt was made. It is alone in its claim."""
        assert len(records) == 1, "S7: nothing is buried together with a record that cannot be read"
        reason = f"{claim.partition} offset {records[0].offset}: {why}"
        log.error("a dead letter: %s", reason)
        frontier = self._ask(
            lambda: self._of.ledger.bury(self._of.life, claim, records, claim.range.stop, reason, 0),
            "burying",
        )
        self._decided(claim, claim.range.stop, frontier, "dead_letters", 1)

    def _bury(self, claim: Claim, case: Case) -> None:
        raws, attempts = as_polled(case.records), case.history.all_attempts
        frontier = self._ask(
            lambda: self._of.ledger.bury(self._of.life, claim, raws, case.stop, case.reason, attempts),
            "burying",
        )
        self._decided(claim, case.stop, frontier, "dead_letters", len(raws))

    def _decided(self, claim: Claim, stop: int, frontier: int, what: str, records: int) -> None:
        self._decided_to = stop
        self._settled(stop)
        self._of.summary.count(what, records)
        self._on_frontier({claim.partition: frontier}, claim)
