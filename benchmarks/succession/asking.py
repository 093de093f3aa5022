"""A slot that asks for votes and claims what it asked about: only a claim that the ledger grants shows an accepted vote."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from airflow_kafka_exactly.errors import StaleEpoch
from airflow_kafka_exactly.ports import MemberLedger
from airflow_kafka_exactly.protocol.claims import (
    Claim,
    ClaimPart,
    ClaimRequest,
    Life,
    LifeKind,
    Mark,
    Opening,
    OpenLife,
    Segment,
)
from airflow_kafka_exactly.protocol.identity import offset_digests
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord
from airflow_kafka_exactly.protocol.votes import BallotPart
from succession.plan import CLUSTER, GROUP

LEASE_S = 86_400.0
"""Nobody renews: this is about leaders, not about leases."""
RECORDS = 10
"""Of one tiny range."""


class Asker:
    """A life with a partition of its own, and the range it asks about next. One caller at a time."""

    def __init__(self, ledger: MemberLedger, slot: str) -> None:
        self.ledger = ledger
        self.life = open_life(ledger, slot)
        self.partition = open_partitions(ledger, self.life, slot, 1)[0]
        self._start = 0

    @property
    def part(self) -> BallotPart:
        return ballot_part(self.partition, np.arange(self._start, self._start + RECORDS))

    def claim(self, epoch: int) -> bool:
        """Whether the ledger lets a vote of this epoch lead to a claim of the range; then the range is settled too, and the
        next one is asked about."""
        span = OffsetRange(self._start, self._start + RECORDS)
        try:
            claims = claim(self.ledger, self.life, epoch, [(self.partition, span)])
        except StaleEpoch:
            return False
        self._start = span.stop
        settled = [Mark(c.claim_id, c.range.stop, c.range.stop) for c in claims]
        frontiers = self.ledger.mark(self.life, settled)
        self.ledger.committed(self.life, frontiers)
        if [c.range for c in claims] != [span]:
            raise SystemExit(f"asked for {span} and was granted {claims}")
        return True


def open_life(ledger: MemberLedger, slot: str) -> Life:
    request = OpenLife(
        group_id=GROUP,
        cluster_id=CLUSTER,
        slot=slot,
        owner=slot,
        kind=LifeKind.WORKER,
        process="benchmark",
        lease_s=LEASE_S,
    )
    return ledger.open_life(request)


def open_partitions(ledger: MemberLedger, life: Life, topic: str, count: int) -> list[Partition]:
    partitions = [Partition(f"id of {topic}", number, topic) for number in range(count)]
    ledger.open_partitions(life, CLUSTER, [Opening(p, 0, committed=False) for p in partitions])
    return partitions


_STEPS = itertools.count(1)
"""Of all lives of this process: the numbers of a life's questions need only grow."""


def claim(
    ledger: MemberLedger, life: Life, epoch: int, spans: Sequence[tuple[Partition, OffsetRange]]
) -> tuple[Claim, ...]:
    """What is granted. A long range is claimed as a gap with one record, so that the request stays small."""
    parts = [
        ClaimPart(PartitionBatch(partition, span, _records(span)), (Segment(span, False),))
        for partition, span in spans
    ]
    return ledger.claim(ClaimRequest(life, epoch, next(_STEPS), tuple(parts))).granted


def ballot_part(partition: Partition, offsets: np.ndarray) -> BallotPart:
    span = OffsetRange(int(offsets.min()), int(offsets.max()) + 1)
    return BallotPart(partition, span, offsets, offset_digests(CLUSTER, partition, offsets))


def _records(span: OffsetRange) -> tuple[RawRecord, ...]:
    return tuple(RawRecord(offset, None, b"", (), 0) for offset in range(span.start, span.stop)[:RECORDS])
