"""A member that works: take voted batches, claim, run, and decide when to stop (section 4)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from airflow_kafka_exactly.errors import StaleEpoch
from airflow_kafka_exactly.protocol.claims import Claim, ClaimRequest, ClaimResult, Redo
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.protocol.segments import claim_part
from airflow_kafka_exactly.protocol.votes import NoticeKind
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.membership import Membership
from airflow_kafka_exactly.runtime.polling import HeldPart
from airflow_kafka_exactly.runtime.running import Runner, Work
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.runtime.voting import VotedBatch

log = logging.getLogger(__name__)
WAIT_S = 0.1
LOOK_AT_LEDGER_EVERY_S = 1.0
REDO_RECORDS = 200


class Member:
    """Runs inside an open `Membership`, on the user's thread."""

    def __init__(self, membership: Membership, function: UserFunction, until: Until) -> None:
        self._in, self._until, self._unit = membership, until, function.unit
        self._ledger, self._clock = membership.ports.ledger, membership.ports.clock
        self._epoch = 0
        self._redo_at = self._ends_looked_at = self._clock.now()
        self._steps = count(1)
        """Numbers the questions that may grant something. Only this thread asks them, each until it is answered."""
        self._later: dict[Partition, deque[VotedBatch]] = {}
        """Of partitions whose next record is tried later, that longest waiting first: what was voted on, each a single part. The
        first one of each begins with that record and was claimed before."""
        self._redo_later = False
        self._idle_since: float | None = None
        self._without_since: float | None = None
        """Since when no partition is assigned."""
        self.ran_records = 0
        self._runner = Runner(
            membership.shared, function, membership.lease, membership.ports.guard, self._frontier_moved
        )

    def run(self) -> Ending:
        """Work until there is a reason to end. Raises what ended any of the member's threads."""
        while True:
            self._in.background.check()
            self._heed_notices()
            worked = self._redo_released() or self._try_again()
            voted = self._in.voter.next(0.0 if worked else WAIT_S)
            if voted is not None:
                self._work(voted)
            elif not worked and not self._later:
                ending = self._ending()
                if ending is not None:
                    return ending
            if self._enough():
                return Ending.MAX_RECORDS

    # -- a batch's way: votes, claim, run

    def _work(self, voted: VotedBatch) -> None:
        """As much of it as `max_records` leaves: the rest is not claimed, and so is polled again by whoever comes next."""
        if voted:
            self._idle_since = None
        rest: VotedBatch | None = voted
        while rest is not None and not self._enough():
            piece, rest = rest.cut(self._left())
            self._work_on(self._put_off(piece) if self._later else piece)

    def _work_on(self, voted: VotedBatch) -> None:
        hand = self._in.poller.hand
        ours = hand.hold(voted.parts)
        held = tuple(p for p, mine in zip(voted.parts, ours, strict=True) if mine)
        if not held:
            return  # all of it has moved to another member since it was voted on
        left = {p.batch.partition: p for p in held}
        try:
            result = self._claim(voted, held)
            self._note(result, held)
            for part in held:
                start = self._run_all(
                    [c for c in result.granted if c.partition == part.batch.partition], part
                )
                if start is not None:
                    self._try_later(voted.only(part.batch.partition.__eq__), start)
                hand.release(left.pop(part.batch.partition).batch.partition)
        finally:
            for partition in left:
                hand.release(partition)

    def _claim(self, voted: VotedBatch, held: tuple[HeldPart, ...]) -> ClaimResult:
        """Ask the arbiter; a refused epoch means that a newer leader has to be asked first (S4)."""
        while True:
            votes = {
                p.batch.partition: v
                for p, v in zip(voted.parts, voted.answer.votes, strict=True)
                if p in held
            }
            request = ClaimRequest(
                life=self._in.life,
                epoch=voted.answer.epoch,
                step=next(self._steps),
                parts=tuple(claim_part(p.batch, votes[p.batch.partition]) for p in held),
                unit=self._unit,
            )
            self._in.lease.await_trust()
            try:
                result = self._in.background.persist(partial(self._ledger.claim, request), "claiming")
            except StaleEpoch:
                log.info(
                    "%s: votes of epoch %d are old, asking again", self._in.life.slot, voted.answer.epoch
                )
                voted = self._in.voter.ask(held)
            else:
                self._epoch = voted.answer.epoch
                return result

    def _note(self, result: ClaimResult, held: tuple[HeldPart, ...]) -> None:
        summary = self._in.summary
        for part in held:
            summary.took(part.batch.partition, part.batch.range)
            summary.count("polled", len(part.batch.records))
            skipped = result.settled.get(part.batch.partition, ())
            summary.count(
                "duplicates_skipped", sum(len(part.batch.between(r.start, r.stop)) for r in skipped)
            )
        summary.count("doubts_written", result.new_doubts)
        self._in.committer.offer(result.frontiers, {c.partition: c.claim_id for c in result.granted})

    def _run_all(self, claims: Sequence[Claim], part: HeldPart) -> int | None:
        """Returns where the rest begins that is tried later: it is given back."""
        for ran, claim in enumerate(claims, 1):
            start = self._run(claim, part)
            if start is not None:
                for after in claims[ran:]:
                    self._in.background.persist(
                        partial(self._ledger.give_back, self._in.life, after.claim_id, after.range.start),
                        "giving back",
                    )
                return start
        return None

    def _run(self, claim: Claim, part: HeldPart) -> int | None:
        hand, tenure = self._in.poller.hand, part.tenure
        records = part.batch.between(claim.range.start, claim.range.stop)
        start = self._runner.run(Work(claim, records, lambda: hand.ours(tenure)))
        stop = claim.range.stop if start is None else start
        self.ran_records += len(part.batch.between(claim.range.start, stop))
        return start

    # -- partitions whose next record is to be tried later: the others go on meanwhile

    def _try_later(self, part: VotedBatch, start: int) -> None:
        """Its records, as the ledger knows nothing of them any more, stay in hand while the partition is ours."""
        rest = part.from_offset(start)
        self._in.summary.count("polled", -len(rest))  # they will be claimed, and counted, again
        self._later[rest.partition] = deque([rest])
        self._in.poller.hand.wait(rest.partition, True)

    def _put_off(self, voted: VotedBatch) -> VotedBatch:
        """What was voted on before its partition had to wait joins those that wait. Returns the rest."""
        for one in voted.alone():
            if one.partition in self._later:
                self._later[one.partition].append(one)
        return voted.only(lambda partition: partition not in self._later)

    def _try_again(self) -> bool:
        """The partition that has waited longest, once its time has come."""
        if not self._later or self._runner.resting:
            return False
        partition = next(iter(self._later))
        waiting = self._later.pop(partition)
        self._in.poller.hand.wait(partition, False)
        for voted in waiting:
            self._work(voted)
        return True

    def _frontier_moved(self, frontiers: dict[Partition, int], claim: Claim) -> None:
        self._in.committer.offer(frontiers, {claim.partition: claim.claim_id})

    # -- released doubts, by any member of the group

    def _heed_notices(self) -> None:
        for notice in self._in.voter.notices():
            if notice.kind is NoticeKind.RELEASED_DOUBTS:
                self._redo_at = self._clock.now()
            else:
                frontiers = self._in.frontiers()
                self._in.committer.again({p: frontiers[p] for p in notice.partitions if p in frontiers})

    def _redo_released(self) -> bool:
        if self._redo_later and self._runner.resting:
            return False
        if self._clock.now() < self._redo_at or not self._released():
            return False
        self._redo_later = False
        if self._epoch == 0:
            self._epoch = self._in.voter.epoch()
        self._in.lease.await_trust()
        left = self._left()
        limit = REDO_RECORDS if left is None else min(left, REDO_RECORDS)
        step = next(self._steps)
        try:
            redos = self._in.background.persist(
                lambda: self._ledger.claim_released(self._in.life, self._epoch, step, limit),
                "claiming doubts",
            )
        except StaleEpoch:
            self._epoch = self._in.voter.epoch()
            return False
        for redo in redos:
            self._redo(redo)
        self._redo_at = self._clock.now()  # there may be more
        return bool(redos)

    def _released(self) -> bool:
        self._redo_at = self._clock.now() + LOOK_AT_LEDGER_EVERY_S
        return bool(
            self._in.background.persist(
                lambda: self._ledger.released_count(self._in.life.group_id), "looking for released doubts"
            )
        )

    def _redo(self, redo: Redo) -> None:
        stopping: Callable[[], bool] = self._in.background.stopping.is_set
        self.ran_records += len(redo.records)
        later = self._runner.run(Work(redo.claim, redo.records, lambda: not stopping()))
        self._redo_later = self._redo_later or later is not None

    # -- the end

    def _left(self) -> int | None:
        """How many records may still be run; None: any number."""
        limit = self._until.max_records
        return None if limit is None else max(0, limit - self.ran_records)

    def _enough(self) -> bool:
        return self._left() == 0

    def _surplus(self) -> bool:
        """The group has no partition for this member: none came within a session, which is how long Kafka holds those of a
        member that is gone. It is as idle as one whose partitions are read up."""
        now = self._clock.now()
        if self._in.poller.hand.partitions():
            self._without_since = None
        elif self._without_since is None:
            self._without_since = now
        since = self._without_since
        return since is not None and now - since >= self._in.settings.kafka.session_timeout_s

    def _ending(self) -> Ending | None:
        hand, surplus = self._in.poller.hand, self._surplus()
        if not ((hand.caught_up() or surplus) and self._in.voter.idle()):
            if hand.pending_records() or not hand.at_end():  # a gap alone is no work
                self._idle_since = None
            return None
        now, until = self._clock.now(), self._until
        if self._idle_since is None:
            self._idle_since = now
        idle_s = now - self._idle_since
        if until.to_end and now >= self._ends_looked_at:
            self._ends_looked_at = now + LOOK_AT_LEDGER_EVERY_S
            if self._in.ended_at(until.ends):
                return Ending.END
        if until.idle_timeout_s is not None and idle_s >= until.idle_timeout_s:
            return Ending.IDLE_TIMEOUT
        if until.defer_when_idle_s is not None and idle_s >= until.defer_when_idle_s:
            return Ending.IDLE
        return None
