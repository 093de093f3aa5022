"""What a coordinator says of itself, for commands, pages and logs."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_kafka_exactly.errors import ConfigurationError, Unavailable
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.desk import Desk


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """One group as its leader sees it. Votes are counted since it took office."""

    group_id: str
    ids: int
    filter_generations: int
    false_positive_rate: float
    """By the bits that are set."""
    reserved_ranges: int
    asked: int
    fresh: int
    settled: int
    doubtful: int
    positives: int
    unfounded: int
    """Positives that nothing explains: false ones, and ids that were dropped or given back."""
    orphans_wait: str
    """Why orphan commits still wait; empty when they do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorState:
    address: str
    role: str
    """"standby", "out", "raising", "loading" or "open" (leading)."""
    epoch: int
    """Of its reign; 0 when it does not lead."""
    fenced: int
    follows: bool
    """A standby that has the leader's filters and keeps up with it."""
    members: tuple[Life, ...]
    standbys: tuple[str, ...]
    groups: tuple[GroupState, ...]
    error: str
    """What went wrong last and has not worked since; empty when all is well."""

    @property
    def leads(self) -> bool:
        return self.role == "open"


def group_state(desk: Desk, orphans_wait: str) -> GroupState:
    return GroupState(
        group_id=desk.group_id,
        ids=desk.filter.count,
        filter_generations=desk.filter.generations,
        false_positive_rate=desk.filter.expected_false_positive_rate(),
        reserved_ranges=len(desk.reservations),
        asked=desk.counts.asked,
        fresh=desk.counts.fresh,
        settled=desk.counts.settled,
        doubtful=desk.counts.doubtful,
        positives=desk.counts.positives,
        unfounded=desk.counts.unfounded,
        orphans_wait=orphans_wait,
    )


def describe(error: Exception) -> str:
    """For logs and status: configuration errors say what to do themselves."""
    kind = "" if isinstance(error, ConfigurationError | Unavailable) else f"{type(error).__name__}: "
    return f"{kind}{error}"
