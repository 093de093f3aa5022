"""Doubts for tests of judging: ripe ones by kind, and a ledger that holds nothing else."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_kafka_exactly.protocol.claims import (
    CheckReference,
    Decision,
    DoubtFacts,
    DoubtKind,
    DoubtState,
    Verdict,
)
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, RawRecord

CHECK = CheckReference(path="payments:check", effect_timeout_s=10.0)
NO_CHECK = replace(CHECK, path="")
PAYMENTS = Partition("topic-id", 3, "payments")


def doubt(kind: DoubtKind, **changes: Any) -> DoubtFacts:
    """A doubt that is ripe: its life fenced long ago, the payload stored, in no claim."""
    facts = DoubtFacts(
        doubt_id=7,
        version=2,
        group_id="g",
        cluster_id="c",
        partition=PAYMENTS,
        range=OffsetRange(10, 11),
        unit=False,
        kind=kind,
        state=DoubtState.OPEN,
        durable=True,
        slot="dag.task[0]",
        incarnation=4,
        settled_elsewhere=False,
        claim_id=None,
        claim_started=False,
        lease_left_s=0.0,
        since_lease_end_s=60.0,
        age_s=60.0,
        passed=False,
        unread=False,
        check=CHECK,
        reason="",
    )
    return replace(facts, **changes)


def vote(**changes: Any) -> DoubtFacts:
    return doubt(DoubtKind.VOTE, **changes)


def collision(**changes: Any) -> DoubtFacts:
    return doubt(DoubtKind.COLLISION, **changes)


def window(**changes: Any) -> DoubtFacts:
    return doubt(DoubtKind.WINDOW, **changes)


def raised(**changes: Any) -> DoubtFacts:
    return doubt(DoubtKind.RAISED, **changes)


def raw(offset: int, key: bytes | None = b"key") -> RawRecord:
    return RawRecord(offset, key, b"value", (), 0)


class JustDoubts:
    """An EvidenceLedger of a handful of doubts, with the one rule that matters here: a decision is bound to a version."""

    def __init__(self, *doubts: DoubtFacts) -> None:
        self.doubts = {facts.doubt_id: facts for facts in doubts}
        self.payloads = {facts.doubt_id: [raw(facts.range.start)] for facts in doubts}
        self.decisions: list[Decision] = []
        self.held: dict[int, float] = {}
        self._lock = threading.Lock()

    def announce(self, limit: int, again_after_s: float) -> Sequence[DoubtFacts]:
        assert again_after_s >= 0
        return [f for f in self.doubts.values() if f.state is DoubtState.OPEN][:limit]

    def hold(self, versions: Mapping[int, int], for_s: float) -> None:
        self.held.update({n: for_s for n, version in versions.items() if self.doubts[n].version == version})

    def facts_of(self, doubt_ids: Sequence[int]) -> Sequence[DoubtFacts]:
        return [self.doubts[doubt_id] for doubt_id in doubt_ids if doubt_id in self.doubts]

    def find(self, group_id: str, topic: str, partition: int, offsets: OffsetRange) -> Sequence[DoubtFacts]:
        return [
            f
            for f in self.doubts.values()
            if (f.group_id, f.partition.topic, f.partition.number) == (group_id, topic, partition)
            and f.range.touches(offsets)
        ]

    def payload(self, doubt_id: int) -> Sequence[RawRecord]:
        return self.payloads[doubt_id]

    def decide(self, decision: Decision) -> bool:
        with self._lock:
            facts = self.doubts[decision.doubt_id]
            if facts.version != decision.version or facts.state is not DoubtState.OPEN:
                return False
            closed = decision.dead_letter or decision.verdict is Verdict.APPLIED
            self.change(facts.doubt_id, state=DoubtState.CLOSED if closed else DoubtState.RELEASED)
            self.decisions.append(decision)
            return True

    def change(self, doubt_id: int, **changes: Any) -> None:
        """Every change of a doubt is a new version of it."""
        facts = self.doubts[doubt_id]
        self.doubts[doubt_id] = replace(facts, version=facts.version + 1, **changes)
