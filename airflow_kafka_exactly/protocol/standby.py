"""What a contender that does not lead keeps: the leader's filters, so that it starts with more than the ledger holds.

A standby counts (its acknowledgement is waited for, its knowledge enters votes) only while it has missed nothing: additions are
numbered for each group, and a hole between two numbers means that it has to follow anew, with whole snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_kafka_exactly.errors import Unavailable
from airflow_kafka_exactly.protocol.filter import Known, VoteFilter
from airflow_kafka_exactly.protocol.votes import Digests
from airflow_kafka_exactly.settings import FilterSettings


class Standby:
    def __init__(self, settings: FilterSettings, filters: Mapping[str, VoteFilter] | None = None) -> None:
        """`filters` are those of its own reign, when it has just stood down."""
        self._settings = settings
        self._filters = dict(filters or {})
        self._sequences: dict[str, int] = {}

    @property
    def filters(self) -> Mapping[str, VoteFilter]:
        return self._filters

    def load(self, snapshots: Sequence[tuple[str, int, bytes]]) -> None:
        """(group, last sequence, bytes) of each filter of the leader. What this standby knew and the leader does not is kept: the
        leader hears of it when it asks (union). `ValueError` for something that is no filter."""
        restored = [(g, n, VoteFilter.from_bytes(self._settings, data)) for g, n, data in snapshots]
        self._sequences = {group: sequence for group, sequence, _ in restored}
        for group, _, theirs in restored:
            mine = self._filters.get(group)
            if mine is None:
                self._filters[group] = theirs
                continue
            theirs.absorb(mine)
            self._filters[group] = theirs
            self._rotate_when_full(theirs)

    def add(self, group: str, sequence: int, digests: Digests) -> Known:
        """Returns which were known. `Unavailable` (follow anew) when an earlier addition is missing."""
        last = self._sequences.get(group, 0)
        if sequence > last + 1:
            raise Unavailable(
                "the leader", "standby", f"addition {sequence} of {group!r} came after {last}: follow anew"
            )
        mine = self._filters.setdefault(group, VoteFilter(self._settings))
        known = mine.add(digests)
        self._sequences[group] = max(last, sequence)
        self._rotate_when_full(mine)
        return known

    @staticmethod
    def _rotate_when_full(mine: VoteFilter) -> None:
        """A standby may forget older ids without asking the ledger: should it lead, it loads the ledger first (S6)."""
        if mine.nearly_full or mine.generations > 3:
            mine.begin_rotation()
            mine.end_rotation()
