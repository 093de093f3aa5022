"""When a member is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_kafka_exactly.protocol.record import Partition


class Ending(StrEnum):
    """Why a member's run ended."""

    END = "end"  # the group has reached the end offsets seen at start
    MAX_RECORDS = "max_records"
    IDLE_TIMEOUT = "idle_timeout"
    IDLE = "idle"  # caught up: time to defer
    RECORDS = "records"  # (of a waiting member) there is work
    DOUBTS = "doubts"  # (of a waiting member) there are released doubts
    NO_ROOM = "no_room"  # (of a waiting member) its process may not open as many files


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """`ends` (with `until="end"`): the end offsets seen at the operator's start; empty with `until="forever"`."""

    ends: dict[Partition, int] = field(default_factory=dict)
    to_end: bool = True
    max_records: int | None = None
    idle_timeout_s: float | None = None
    defer_when_idle_s: float | None = None
    """How long a member is idle before it ends with `Ending.IDLE`; None: it waits on."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-native, for a trigger's arguments (which hold what a waiting member needs, and nothing else)."""
        return {
            "ends": [[p.topic_id, p.number, p.topic, end] for p, end in sorted(self.ends.items())],
            "to_end": self.to_end,
            "max_records": self.max_records,
            "idle_timeout_s": self.idle_timeout_s,
            "defer_when_idle_s": self.defer_when_idle_s,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Until:
        ends = {Partition(topic_id, number, topic): end for topic_id, number, topic, end in data["ends"]}
        return cls(**{**data, "ends": ends})
