"""A consumer group in memory: static members, cooperative rebalances, committed offsets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_kafka_exactly.protocol.claims import CommitCode

if TYPE_CHECKING:
    from airflow_kafka_exactly.adapters.memory.group_consumer import MemoryConsumer

Key = tuple[str, int]
"""Topic name and partition number: like Kafka's, a group goes by name."""


@dataclass(slots=True)
class Committed:
    offset: int
    topic_id: str
    claim: int
    ours: bool = True
    """False for an offset that a plain consumer committed."""


@dataclass(slots=True)
class Refusal:
    code: CommitCode
    name: str
    times: int


@dataclass(slots=True)
class Member:
    slot: str
    topics: tuple[str, ...]
    consumer: MemoryConsumer | None
    """None after a close: the place stays until the session ends."""
    owned: set[Key] = field(default_factory=set)
    wanted: set[Key] = field(default_factory=set)


@dataclass(slots=True)
class Group:
    name: str
    generation: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    dynamic_members: int = 0
    """Plain consumers, which tests pretend to have."""
    offsets: dict[Key, Committed] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    def free(self, key: Key, slot: str) -> bool:
        """Whether nobody else has to give the partition up first."""
        return all(key not in m.owned for m in self.members.values() if m.slot != slot)

    def rebalance(self, partitions: Iterable[Key]) -> None:
        """Share the partitions evenly; each member keeps what it may (sticky), lowest slots first."""
        self.generation += 1
        members = [self.members[slot] for slot in sorted(self.members)]
        rest = sorted(partitions)
        if not members:
            return
        quota, extra = divmod(len(rest), len(members))
        for at, member in enumerate(members):
            limit = quota + (1 if at < extra else 0)
            member.wanted = set(sorted(member.owned & set(rest))[:limit])
            rest = [key for key in rest if key not in member.wanted]
        for at, member in enumerate(members):
            missing = quota + (1 if at < extra else 0) - len(member.wanted)
            member.wanted |= set(rest[:missing])
            rest = rest[missing:]

    def refusal(self) -> tuple[CommitCode, str] | None:
        """The next refusal that a test has asked for."""
        if not self.refusals:
            return None
        refusal = self.refusals[0]
        refusal.times -= 1
        if refusal.times <= 0:
            self.refusals.pop(0)
        return refusal.code, refusal.name
