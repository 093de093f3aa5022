"""A member that waits: it keeps its place in the consumer group, polls, asks for votes, and says when there is work. It never
claims (section 4.9): what it polled is polled again by the slot's next life, which gets the same votes.
"""

from __future__ import annotations

from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.membership import Membership
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.runtime.voting import VotedBatch

LOOK_AT_LEDGER_EVERY_S = 2.0
WAIT_S = 0.25


def await_work(membership: Membership, until: Until, idle_s: float) -> Ending:
    """Block until there are records, released doubts, or a reason to end. `idle_s`: how long it has been idle before."""
    clock, ledger = membership.ports.clock, membership.ports.ledger
    since, look_at = clock.now(), clock.now()
    while True:
        membership.background.check()
        voted = membership.voter.next(WAIT_S)
        if voted is not None and _is_work(voted, until):
            return Ending.RECORDS
        now = clock.now()
        if until.idle_timeout_s is not None and now - since + idle_s >= until.idle_timeout_s:
            return Ending.IDLE_TIMEOUT
        if now >= look_at or membership.voter.notices():
            look_at = now + LOOK_AT_LEDGER_EVERY_S
            if membership.background.persist(
                lambda: ledger.released_count(membership.life.group_id), "looking for released doubts"
            ):
                return Ending.DOUBTS
            if until.to_end and membership.ended_at(until.ends):
                return Ending.END


def _is_work(voted: VotedBatch, until: Until) -> bool:
    """Offsets without a record (an aborted transaction) are none, unless somebody waits for a frontier behind them."""
    return bool(voted) or any(
        part.batch.range.start < until.ends.get(part.batch.partition, 0) for part in voted.parts
    )


__all__ = ["Stopped", "await_work"]
