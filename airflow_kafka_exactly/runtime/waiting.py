"""A member that waits: it keeps its place in the consumer group, polls, and says when there is work. It never claims: what it
polled is polled again by the slot's next life, which asks the leader about it.

All of that happens in the caller's one thread, without a link to the leader: a triggerer has hundreds of these.
"""

from __future__ import annotations

import logging

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.membership import Membership
from airflow_kafka_exactly.runtime.polling import HeldPart
from airflow_kafka_exactly.runtime.until import Ending, Until

log = logging.getLogger(__name__)
LOOK_AT_LEDGER_EVERY_S = 2.0


def await_work(membership: Membership, until: Until, idle_s: float) -> Ending:
    """Block until there are records, released doubts, or a reason to end. `idle_s`: how long it has been idle before."""
    watch = _Watch(membership, until, idle_s)
    membership.poller.run(watch)
    if watch.ending is None:
        membership.background.check()
        raise Stopped
    return watch.ending


class _Watch:
    """Asked after each poll whether that was enough."""

    def __init__(self, membership: Membership, until: Until, idle_s: float) -> None:
        self._in, self._until = membership, until
        self._since = membership.ports.clock.now() - idle_s
        self._look_at = float("-inf")
        self._records = False
        self.ending: Ending | None = None

    def __call__(self) -> bool:
        self._in.background.check()
        self.ending = self._found()
        return self.ending is not None

    def _found(self) -> Ending | None:
        until, now = self._until, self._in.ports.clock.now()
        self._look_at_polled()
        # A worker could do nothing without a leader: until there is one, waiting costs less here.
        if self._records and self._in.voter.finds_leader():
            return Ending.RECORDS
        idle_s = 0.0 if self._records else now - self._since
        if until.idle_timeout_s is not None and idle_s >= until.idle_timeout_s:
            return Ending.IDLE_TIMEOUT
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_AT_LEDGER_EVERY_S
        try:
            return self._found_in_ledger()
        except Unavailable as away:  # polling goes on: who stops polling loses his place in the group
            log.warning("%s: looking for released doubts: %s; trying again", self._in.life.slot, away)
            return None

    def _look_at_polled(self) -> None:
        """What is no work is dropped. With the first that is, the rest stays in hand: then polling pauses at its limit."""
        hand, limit = self._in.poller.hand, self._in.settings.max_batch_records
        while not self._records and (parts := hand.take(limit)):
            self._records = any(_is_work(part, self._until) for part in parts)

    def _found_in_ledger(self) -> Ending | None:
        if self._in.ports.ledger.released_count(self._in.life.group_id):
            return Ending.DOUBTS
        if self._until.to_end and self._in.ended_at(self._until.ends):
            return Ending.END
        return None


def _is_work(part: HeldPart, until: Until) -> bool:
    """Offsets without a record (an aborted transaction) are none, unless somebody waits for a frontier behind them."""
    return bool(part.batch.records) or part.batch.range.start < until.ends.get(part.batch.partition, 0)
