"""A stage for stories about the ledger: the same verbs over the ledger in memory and over PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import psycopg

from airflow_kafka_exactly.adapters.memory.ledger import MemoryLedger
from airflow_kafka_exactly.adapters.postgres import Ledgers, migrate, open_ledger
from airflow_kafka_exactly.protocol.claims import (
    CheckReference,
    Claim,
    ClaimPart,
    ClaimRequest,
    ClaimResult,
    Decision,
    DoubtFacts,
    Life,
    LifeKind,
    Mark,
    Opening,
    OpenLife,
    Redo,
    Segment,
    Verdict,
)
from airflow_kafka_exactly.protocol.evidence import Answer, AskCheck, Decided, decision, weigh
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord
from airflow_kafka_exactly.settings import LedgerSettings

GROUP, CLUSTER, TOPIC = "payments", "cluster-1", "payments-in"
PLACE = Partition("topic-id-1", 0, TOPIC)
LEASE_S = 20.0
EVERYTHING = OffsetRange(0, 1 << 40)


class ManualClock:
    def __init__(self) -> None:
        self._now = 1000.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


def record(offset: int) -> RawRecord:
    return RawRecord(offset, b"key", b"value %d" % offset, (("h", b"1"),), 1_700_000_000_000 + offset)


class Stage:
    """One group on one ledger. Offsets hold a record each unless `gaps` says otherwise."""

    def __init__(self, ledger: Ledgers | MemoryLedger) -> None:
        self.ledger: Any = ledger
        self.member, self.leader, self.evidence = ledger.member, ledger.leader, ledger.evidence
        self.report = ledger.report
        self.epoch = 0
        self._steps = itertools.count(1)
        self.gaps: set[int] = set()

    # -- time: what differs between the two

    def pass_time(self, seconds: float) -> None:
        raise NotImplementedError

    def expire(self, life: Life) -> None:
        """End the life's lease now."""
        raise NotImplementedError

    def forget_settled(self) -> None:
        """A fault: no doubt remembers any more that an applied mark has passed it."""
        raise NotImplementedError

    # -- verbs

    def life(self, slot: str = "a", *, owner: str = "", opened: bool = True, **more: Any) -> Life:
        kind = more.pop("kind", LifeKind.WORKER)
        check = more.pop("check", CheckReference(path="shop.checks:paid", effect_timeout_s=0))
        life = self.member.open_life(
            OpenLife(
                group_id=more.pop("group", GROUP),
                cluster_id=CLUSTER,
                slot=slot,
                owner=owner or f"dag.{slot}",
                kind=kind,
                process=more.pop("process", "host:1"),
                lease_s=more.pop("lease_s", LEASE_S),
                check=check,
                kafka_connection=more.pop("kafka_connection", ""),
                dag_id=more.pop("dag_id", ""),
                task_id=more.pop("task_id", ""),
            )
        )
        if opened:
            self.member.open_partitions(life, CLUSTER, [Opening(PLACE, 0, False)])
        return life

    def records(self, start: int, stop: int) -> tuple[RawRecord, ...]:
        return tuple(record(o) for o in range(start, stop) if o not in self.gaps)

    def part(self, start: int, stop: int, doubtful: Sequence[tuple[int, int]] | bool = False) -> ClaimPart:
        """`doubtful`: all of it, or the ranges that were voted doubtful."""
        span = OffsetRange(start, stop)
        batch = PartitionBatch(PLACE, span, self.records(start, stop))
        if isinstance(doubtful, bool):
            return ClaimPart(batch, (Segment(span, doubtful),))
        cuts = sorted({start, stop, *itertools.chain.from_iterable(doubtful)})
        pieces = [OffsetRange(a, b) for a, b in itertools.pairwise(cuts)]
        return ClaimPart(batch, tuple(Segment(p, any(a <= p.start < b for a, b in doubtful)) for p in pieces))

    def ask(
        self, life: Life, *parts: ClaimPart, unit: bool = False, step: int = 0, epoch: int = -1
    ) -> ClaimResult:
        request = ClaimRequest(
            life, self.epoch if epoch < 0 else epoch, step or self.next_step(), parts, unit
        )
        return self.member.claim(request)

    def next_step(self) -> int:
        """Of any life: numbers need only grow."""
        return next(self._steps)

    def claim_released(self, life: Life, epoch: int, limit: int, *, step: int = 0) -> Sequence[Redo]:
        return self.member.claim_released(life, epoch, step or self.next_step(), limit)

    def claim(self, life: Life, start: int, stop: int, *, unit: bool = False) -> Claim:
        """Claim a range that nothing stands in the way of."""
        result = self.ask(life, self.part(start, stop), unit=unit)
        (claim,) = result.granted
        assert claim.range == OffsetRange(start, stop)
        return claim

    def doubt(self, life: Life, start: int, stop: int, *, unit: bool = False) -> ClaimResult:
        return self.ask(life, self.part(start, stop, True), unit=unit)

    def mark(self, life: Life, claim: Claim, started: int, applied: int) -> int:
        return self.member.mark(life, [Mark(claim.claim_id, started, applied)])[PLACE]

    def apply(self, life: Life, claim: Claim) -> int:
        return self.mark(life, claim, claim.range.stop, claim.range.stop)

    def raise_doubt(self, life: Life, claim: Claim, offset: int) -> int:
        return self.member.raise_doubt(life, claim, [record(offset)], offset + 1, "ValueError: no")

    def die(self, life: Life) -> None:
        """Its lease ends, and the leader fences it."""
        self.expire(life)
        assert self.leader.fence(self.epoch, life)

    def new_epoch(self) -> int:
        self.epoch = self.leader.raise_epoch("leader")
        return self.epoch

    # -- looking

    def frontier(self) -> int:
        return self.member.frontiers(GROUP, [TOPIC])[PLACE]

    def doubts(self) -> list[DoubtFacts]:
        """Unclosed ones."""
        return list(self.evidence.find(GROUP, TOPIC, 0, EVERYTHING))

    def the_doubt(self) -> DoubtFacts:
        (facts,) = self.doubts()
        return facts

    def doubted(self) -> list[tuple[int, int, str, str]]:
        return [(f.range.start, f.range.stop, f.kind.value, f.state.value) for f in self.doubts()]

    def outcomes(self) -> dict[tuple[int, int], str | None]:
        return {(d["start"], d["stop"]): d["outcome"] for d in self.report.doubts(GROUP, False)}

    # -- deciding

    def decide(
        self, facts: DoubtFacts, verdict: Verdict, *, by: str = "ledger", dead_letter: bool = False
    ) -> bool:
        return self.evidence.decide(
            Decision(
                doubt_id=facts.doubt_id,
                version=facts.version,
                verdict=verdict,
                by=by,
                evidence={"why": "test"},
                dead_letter=dead_letter,
            )
        )

    def weigh(self, facts: DoubtFacts, answer: Answer = Answer.NOT_ASKED) -> bool | None:
        """Judge by the protocol's table and write it; None: nothing is decided yet."""
        judged = weigh(facts)
        if isinstance(judged, AskCheck) and answer is not Answer.NOT_ASKED:
            judged = weigh(facts, answer)
        if not isinstance(judged, Decided):
            return None
        return self.evidence.decide(decision(facts, judged, {}))


class MemoryStage(Stage):
    def __init__(self) -> None:
        self.clock = ManualClock()
        ledger = MemoryLedger(self.clock)
        self.state = ledger.state
        super().__init__(ledger)

    def pass_time(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def expire(self, life: Life) -> None:
        self.state.lives[life].lease_until = self.clock.now() - 1

    def forget_settled(self) -> None:
        for place in self.state.places.values():
            for doubt in place.doubts:
                doubt.settled = False


class PostgresStage(Stage):
    def __init__(self, conninfo: str) -> None:
        self.settings = LedgerSettings(connection="kafka_exactly_ledger", conninfo=conninfo)
        migrate(self.settings)
        super().__init__(open_ledger(self.settings))

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.settings.conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def pass_time(self, seconds: float) -> None:
        gone = f"make_interval(secs => {seconds})"
        self.sql(
            f"update kafka_exactly.member_life set lease_until = lease_until - {gone}, ended_at = ended_at - {gone}"
        )
        self.sql(f"update kafka_exactly.failing set since = since - {gone}")
        columns = ("kind_since", "announced_at", "quiet_until")
        self.sql("update kafka_exactly.doubt set " + ", ".join(f"{c} = {c} - {gone}" for c in columns))

    def expire(self, life: Life) -> None:
        self.sql(
            "update kafka_exactly.member_life set lease_until = clock_timestamp() - interval '1 s'"
            " where group_id = %s and slot = %s and incarnation = %s",
            life.group_id,
            life.slot,
            life.incarnation,
        )

    def forget_settled(self) -> None:
        self.sql("update kafka_exactly.doubt set settled = false")

    def empty(self) -> None:
        """Forget everything, for the next example of a property test. The audit trail refuses, so it stays."""
        self.epoch, self.gaps, self._steps = 0, set(), itertools.count(1)
        self.sql(
            "truncate kafka_exactly.failing, kafka_exactly.group_owner, kafka_exactly.lost_range,"
            " kafka_exactly.doubt_record, kafka_exactly.dead_letter,"
            " kafka_exactly.orphan_commit, kafka_exactly.claim,"
            " kafka_exactly.doubt, kafka_exactly.partition, kafka_exactly.member_life"
        )
        self.sql("update kafka_exactly.leader_epoch set epoch = 0, leader = ''")
