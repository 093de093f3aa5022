"""From a batch to a ballot, and from votes to what is asked of the arbiter."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from airflow_kafka_exactly.protocol.claims import ClaimPart, Segment
from airflow_kafka_exactly.protocol.identity import offset_digests
from airflow_kafka_exactly.protocol.record import Batch, OffsetRange, PartitionBatch
from airflow_kafka_exactly.protocol.votes import BallotPart, Vote, Votes


def ballot_parts(cluster_id: str, batch: Batch) -> tuple[BallotPart, ...]:
    """What the leader is asked about: every record of the batch, as offsets and digests."""
    parts = []
    for part in batch:
        offsets = np.fromiter(map(itemgetter(0), part.records), dtype=np.int64, count=len(part.records))
        digests = offset_digests(cluster_id, part.partition, offsets)
        parts.append(BallotPart(part.partition, part.range, offsets, digests))
    return tuple(parts)


def claim_part(part: PartitionBatch, votes: Votes) -> ClaimPart:
    """Runs of equal votes as segments that cover the batch's range without a hole.

    A gap before a record belongs to that record's segment, the gap after the last record to the last segment: what lies
    between two records is settled together with the later one, so that no offset is ever left to nobody.
    """
    if not part.records:
        return ClaimPart(part, (Segment(part.range, doubtful=False),))
    assert len(votes) == len(part.records), "a vote for each record"
    doubtful = votes == Vote.DOUBTFUL
    last_of_run = [*np.flatnonzero(doubtful[1:] != doubtful[:-1]).tolist(), len(part.records) - 1]
    segments, start = [], part.range.start
    for index in last_of_run:
        final = index == len(part.records) - 1
        stop = part.range.stop if final else part.records[index].offset + 1
        segments.append(Segment(OffsetRange(start, stop), bool(doubtful[index])))
        start = stop
    return ClaimPart(part, tuple(segments))


def count_votes(votes: Sequence[Votes]) -> dict[Vote, int]:
    """How many records got each vote."""
    return {vote: int(sum(int((v == vote).sum()) for v in votes)) for vote in Vote}
