"""Members, a leader and evidence at once on one partition of a real PostgreSQL."""

from __future__ import annotations

import random
import threading
import time

from ledger_stage import PostgresStage, record

from airflow_kafka_exactly.errors import AlreadyApplied, Fenced, StaleEpoch
from airflow_kafka_exactly.protocol.claims import Claim, Life, Mark
from airflow_kafka_exactly.protocol.evidence import Answer

LOG = 400


class Hammer:
    """Every effect is counted: those outside of the ledger in `effects`, those of `effect="ledger"` in a table beside it."""

    def __init__(self, stage: PostgresStage) -> None:
        self.stage, self.lock, self.stop = stage, threading.Lock(), threading.Event()
        self.effects = dict.fromkeys(range(LOG), 0)
        stage.sql("create table effects (record_offset bigint)")

    def effect(self, offset: int) -> None:
        with self.lock:
            self.effects[offset] += 1

    def counted(self) -> dict[int, int]:
        """How often each record had its effect, wherever that is."""
        total = dict(self.effects)
        for offset, times in self.stage.sql("select record_offset, count(*) from effects group by 1"):
            total[offset] += times
        return total

    def member(self, slot: str, seed: int) -> None:
        chance, life = random.Random(seed), self.stage.life(slot)
        while not self.stop.is_set():
            try:
                self.work(life, chance)
            except (Fenced, StaleEpoch):
                life = self.stage.life(slot)

    def work(self, life: Life, chance: random.Random) -> None:
        start = min(self.stage.frontier() + chance.randrange(8), LOG - 1)
        stop = min(LOG, start + chance.randrange(1, 30))
        doubtful = [(start, start + 1)] if chance.random() < 0.2 else []
        for claim in self.stage.ask(
            life, self.stage.part(start, stop, doubtful), epoch=self.stage.epoch
        ).granted:
            self.run(life, claim, chance)
        for redo in self.stage.claim_released(life, self.stage.epoch, 3):
            self.run(life, redo.claim, chance)

    def run(self, life: Life, claim: Claim, chance: random.Random) -> None:
        if chance.random() < 0.4:
            self.run_in_ledger(life, claim, chance)
            return
        for offset in range(claim.range.start, claim.range.stop):
            if chance.random() < 0.1:
                self.stage.member.give_back(life, claim.claim_id, offset)
                return
            self.stage.member.mark(life, [Mark(claim.claim_id, offset + 1, offset)])
            if chance.random() < 0.1:
                self.stage.member.raise_doubt(life, claim, [record(offset)], offset + 1, "boom")
                continue
            self.effect(offset)
            if chance.random() < 0.03:
                self.stage.expire(life)
                return
            self.stage.member.mark(life, [Mark(claim.claim_id, offset + 1, offset + 1)])

    def run_in_ledger(self, life: Life, claim: Claim, chance: random.Random) -> None:
        """Record by record, or all of a claim in one transaction. The others poll the same records meanwhile."""
        each = chance.random() < 0.5
        begins = range(claim.range.start, claim.range.stop) if each else [claim.range.start]
        for begin in begins:
            stop = begin + 1 if each else claim.range.stop
            try:
                with self.stage.member.effect_transaction(life, claim.claim_id, stop) as cursor:
                    cursor.executemany("insert into effects values (%s)", [(o,) for o in range(begin, stop)])
                    time.sleep(chance.random() * 0.006)
            except AlreadyApplied:
                return  # a fence of this life cut the claim there

    def others(self) -> None:
        for overdue in self.stage.leader.overdue():
            self.stage.leader.fence(self.stage.epoch, overdue.life)
        for facts in self.stage.evidence.announce(50, 0):
            records = self.stage.evidence.payload(facts.doubt_id)
            with self.lock:
                happened = bool(records) and self.effects[records[0].offset] > 0
            self.stage.weigh(facts, Answer.YES if happened else Answer.NO)
