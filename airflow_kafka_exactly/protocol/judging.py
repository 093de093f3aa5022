"""From the ledger's ranges to one fact for each offset that a leader asks about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from airflow_kafka_exactly.protocol.votes import Fact, Offsets


def judge_offsets(offsets: Offsets, ranges: Iterable[tuple[int, int, int]]) -> Sequence[Fact]:
    """`ranges`: `(fact, start, stop)`, where a later one wins: settled before claimed before doubted."""
    judged = np.zeros(len(offsets), dtype=np.uint8)
    for fact, start, stop in ranges:
        judged[(offsets >= start) & (offsets < stop)] = fact
    return [Fact(int(fact)) for fact in judged]
