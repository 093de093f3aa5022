"""A million ids that the ledger knows: open claims of another slot. No leader may ever call one of them fresh (S6)."""

from __future__ import annotations

import numpy as np

from airflow_kafka_exactly.ports import MemberLedger
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.votes import BallotAnswer, BallotPart, Vote
from succession.asking import ballot_part, claim, open_life, open_partitions

PARTITIONS = 10
SAMPLE = 1000


class KnownIds:
    """Ids are sampled without repeating any: an id that was asked about before is in every filter for that reason alone."""

    def __init__(self, ledger: MemberLedger, epoch: int, count: int) -> None:
        life = open_life(ledger, "holder")
        each = OffsetRange(0, count // PARTITIONS)
        self.partitions = open_partitions(ledger, life, "held", PARTITIONS)
        granted = claim(ledger, life, epoch, [(p, each) for p in self.partitions])
        if sum(len(c.range) for c in granted) != count:
            raise SystemExit(f"the ledger granted {granted} instead of {count} ids")
        self.count = count
        self._order = np.random.default_rng(1).permutation(count)
        self._at = 0

    def sample(self) -> tuple[BallotPart, ...]:
        """Up to `SAMPLE` ids that no sample held before."""
        chosen = self._order[self._at : self._at + SAMPLE]
        self._at += len(chosen)
        return self._parts(np.sort(chosen))

    def every(self) -> list[BallotPart]:
        """All of them, one part for each partition."""
        return list(self._parts(np.arange(self.count)))

    def _parts(self, ids: np.ndarray) -> tuple[BallotPart, ...]:
        each = self.count // PARTITIONS
        by_partition: list[tuple[Partition, np.ndarray]] = [
            (p, ids[ids // each == number] % each) for number, p in enumerate(self.partitions)
        ]
        return tuple(ballot_part(p, offsets) for p, offsets in by_partition if len(offsets))


def count_fresh(answer: BallotAnswer, skip: int = 0) -> int:
    """Of all parts after the first `skip`."""
    return sum(int((votes == Vote.FRESH).sum()) for votes in answer.votes[skip:])
