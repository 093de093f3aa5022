"""What must hold when everything has healed: L1, or in words what is still pending, and L2."""

from __future__ import annotations

from typing import Any

from simulation.checks import Checks
from simulation.effects import key_of
from simulation.plan import Plan

from airflow_kafka_exactly.adapters.memory.ledger import MemoryLedger


class Ending:
    def __init__(self, plan: Plan, ledger: MemoryLedger, broker: Any, checks: Checks) -> None:
        self._waits = plan.triggers
        """Members may wait in a triggerer, where offsets without a record wake nobody."""
        self._state, self._broker, self._verdicts = ledger.state, broker, checks.verdicts
        self._log, self.violate = checks._log, checks.violate

    def pending(self, group_id: str) -> list[str]:
        """What is not settled yet, in words; empty when L1 holds."""
        left = []
        for topic in self._broker._topics.values():
            for number, log in enumerate(topic.logs):
                if log.end:
                    end = self._last_record(log) if self._waits else log.stable
                    left += self._pending_of(group_id, topic.partition(number), end)
        return left + self._of_deleted_topics(group_id)

    def _of_deleted_topics(self, group_id: str) -> list[str]:
        """Nothing is delivered from them any more: what is in question is decided from its payload, or closed as lost."""
        today = {topic.topic_id for topic in self._broker._topics.values()}
        return [
            f"doubt {d.doubt_id} at {d.start} of {place.partition}, deleted, is {d.state}, {d.kind}, "
            f"{'durable' if d.durable else 'without payload'}: {d.reason}"
            for place in self._state.group_places(group_id)
            if place.partition.topic_id not in today
            for d in place.doubts
            if not d.closed
        ]

    @staticmethod
    def _last_record(log: Any) -> int:
        """A gap at the end waits for the next record; those who wait for their `ends` are looked at by themselves."""
        return max((r.offset + 1 for r in log.records if r.offset < log.stable), default=0)

    def _pending_of(self, group_id: str, partition: Any, end: int) -> list[str]:
        place = self._state.place(group_id, partition)
        if place is None:
            return [f"{partition} was never opened"]
        left = [
            f"doubt {d.doubt_id} at {d.start} of {partition} is {d.state}, {d.kind}, "
            f"{'durable' if d.durable else 'without payload'}: {d.reason}"
            for d in place.doubts
            if not d.closed
        ]
        left += [
            f"claim {c.claim_id} of {c.life} [{c.start}, {c.stop}) of {partition} is open"
            for c in place.claims
            if not c.settled
        ]
        if place.frontier < end:
            left.append(f"the frontier of {partition} is {place.frontier}, its end {end}")
        found = self._broker.group(group_id).offsets.get((partition.topic, partition.number))
        if place.frontier and (found is None or found.offset < place.frontier):
            left.append(
                f"the offset of {partition} is {found.offset if found else None}, its frontier {place.frontier}"
            )
        left += [
            f"orphan commit [{o.start}, {o.stop}) of {partition} is open"
            for o in place.orphans
            if o.state == "open"
        ]
        return left

    def settled(self, group_id: str) -> None:
        """L2 at the end: each record has its one effect, or is a dead letter that had none, or the policy chose otherwise."""
        for place in self._state.group_places(group_id):
            log = self._log(place)
            buried = {letter.record.offset for letter in place.letters}
            for record in log.records if log is not None else ():
                key = key_of(place.partition, record.offset)
                effects = self._verdicts.target.count[key]
                if record.offset in buried:
                    if effects and not self._verdicts.excused(key):
                        self.violate(
                            f"L2: {place.partition} {record.offset} is a dead letter and had its effect"
                        )
                elif effects != 1 and not (effects == 0 and self._verdicts.excused(key)):
                    self.violate(f"L2: {place.partition} {record.offset} has {effects} effects at the end")
