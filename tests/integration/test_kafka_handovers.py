"""One membership change after the other, while records come: no hole, no overlap, no partition left alone."""

import random
from collections.abc import Mapping, Sequence

import pytest
from brokers import Cluster, RealCluster, TestMember, eventually, settings

from airflow_kafka_exactly.errors import Fenced
from airflow_kafka_exactly.ports import Consumers, Polled
from airflow_kafka_exactly.protocol.claims import CommitCode, Opening
from airflow_kafka_exactly.protocol.record import Partition

pytestmark = pytest.mark.integration

PARTITIONS = 6


class Frontier:
    """What a ledger would know: how far each partition was handed over."""

    def __init__(self) -> None:
        self.stops: dict[int, int] = {}
        self.values: list[bytes | None] = []


class Member(TestMember):
    def __init__(self, consumers: Consumers, slot: str, frontier: Frontier) -> None:
        self.frontier, self.slot = frontier, slot
        super().__init__(consumers, slot)

    def assigned(self, openings: Sequence[Opening]) -> Mapping[Partition, int]:
        super().assigned(openings)
        return {o.partition: max(o.start, self.frontier.stops.get(o.partition.number, 0)) for o in openings}

    def poll(self, max_records: int = 40, timeout_s: float = 0.02) -> Polled:
        polled = super().poll(max_records, timeout_s)
        for batch in polled.batches:
            number = batch.partition.number
            assert batch.range.start == self.frontier.stops.get(number, 0), "a hole or an overlap"
            self.frontier.stops[number] = batch.range.stop
            self.frontier.values += [r.value for r in batch.records]
        self.consumer.commit({b.partition: (b.range.stop, 1) for b in polled.batches})
        return polled


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_case_33_members_come_go_and_take_over_without_a_hole(kafka: str, seed: int) -> None:
    cluster: Cluster = RealCluster(kafka)
    topic, chance, frontier = cluster.topic(PARTITIONS), random.Random(seed), Frontier()
    ours = settings(cluster, topic)
    consumers = cluster.consumers(ours)
    members, frozen, made = {"dag.task[0]": Member(consumers, "dag.task[0]", frontier)}, [], 0
    for step in range(60):
        made += 50
        for at in range(50):
            cluster.produce(topic, b"%d" % (made - at), number=(made - at) % PARTITIONS)
        slot = f"dag.task[{chance.randrange(3)}]"
        if step % 4 == 0:
            if slot in members and chance.random() < 0.5:
                members.pop(slot).consumer.close()
            elif slot in members:
                frozen.append(members.pop(slot))
            members[slot] = Member(consumers, slot, frontier)
        for member in members.values():
            member.poll()

    def poll_all() -> bool:
        return all(member.poll() for member in members.values())

    next(iter(members.values())).poll_until(lambda: poll_all() and len(frontier.values) >= made, within_s=60)
    assert sorted(frontier.values, key=lambda v: int(v or b"0")) == [b"%d" % n for n in range(1, made + 1)]
    for (
        member
    ) in frozen:  # woken up: it may still hand over what it had fetched, but nothing of it gets into Kafka
        moved = dict.fromkeys(member.consumer.assignment(), (1, 1))
        with pytest.raises(Fenced):
            eventually(lambda woken=member: woken.consumer.poll(100, 0.02) is None, 10)
        assert {code for code, _ in member.consumer.commit(moved).values()} <= {CommitCode.ORPHAN}
    known = cluster.admin().committed(
        ours.group_id, [b.partition for m in members.values() for b in m.batches]
    )
    assert all(1 < offset <= frontier.stops[p.number] for p, offset in known.items())
    for member in [*members.values(), *frozen]:
        member.consumer.close()
