"""What a member did, small and versioned: the operator's XCom (case 15). Never payloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_kafka_exactly.protocol.record import OffsetRange, Partition

VERSION = 1

COUNTS = (
    "polled",
    "fresh",
    "settled",
    "doubtful",  # votes
    "applied",
    "redone",
    "duplicates_skipped",
    "doubts_written",
    "raised",
    "retried",
    "dead_letters",
    "offsets_lost",
    "offset_commits",
    "orphan_commits",
    "deferrals",
)


class Summary:
    """Counts by outcome, and for each partition the offsets from the first to the last record this member took."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTS, 0)
        self._ranges: dict[tuple[str, int], list[int]] = {}

    def count(self, what: str, n: int = 1) -> None:
        self.counts[what] += n

    def took(self, partition: Partition, taken: OffsetRange) -> None:
        known = self._ranges.setdefault((partition.topic, partition.number), [taken.start, taken.stop])
        known[0], known[1] = min(known[0], taken.start), max(known[1], taken.stop)

    def as_dict(self) -> dict[str, Any]:
        """JSON-native: what is returned as XCom and handed over a deferral."""
        return {
            "version": VERSION,
            "counts": {name: self.counts[name] for name in COUNTS},
            "ranges": [
                {"topic": topic, "partition": number, "start": start, "stop": stop}
                for (topic, number), (start, stop) in sorted(self._ranges.items())
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Summary:
        """Take up an earlier stint's summary; a version that this code does not know starts anew."""
        summary = cls()
        if data and data.get("version") == VERSION:
            summary.counts.update(data["counts"])
            for r in data["ranges"]:
                summary._ranges[r["topic"], r["partition"]] = [r["start"], r["stop"]]
        return summary
