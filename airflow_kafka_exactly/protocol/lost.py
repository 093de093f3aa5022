"""Records that Kafka deleted before they were read (L2)."""

from __future__ import annotations

from airflow_kafka_exactly.errors import RecordsLost
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition

ON_LOST_RECORDS = ("fail", "skip")


def lost_range(on_lost_records: str, partition: Partition, position: int, log_start: int) -> OffsetRange:
    """What lies between the group's position and the log's first offset, if it may be passed; else `RecordsLost`."""
    lost = OffsetRange(position, log_start)
    if on_lost_records == "skip":
        return lost
    raise RecordsLost(
        f"offsets {lost} of {partition} were deleted from Kafka (retention) before this group had read them: their records are "
        'lost. To go on behind them set on_lost_records="skip": they are then listed by `airflow kafka-exactly lost`. Raise '
        "the topic's retention above the longest time that this task may stand still."
    )
