"""Our member, wired as the operator wires it, with the process guard of external effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from airflow_kafka_exactly import wiring
from airflow_kafka_exactly.ports import Consumers, GroupConsumer, Polled, RebalanceListener
from airflow_kafka_exactly.protocol.claims import CommitCode, LifeKind
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.member import Member
from airflow_kafka_exactly.runtime.membership import Membership
from airflow_kafka_exactly.runtime.until import Until
from airflow_kafka_exactly.settings import MemberSettings
from contest.plan import SLOT, Count, Plan, Stopwatch


def drain_records(plan: Plan, count: Count, watch: Stopwatch) -> None:
    _drain(plan, UserFunction(apply=count.one), watch)


def drain_batches(plan: Plan, count: Count, watch: Stopwatch) -> None:
    _drain(plan, UserFunction(apply=count.many, unit=True), watch)


def _drain(plan: Plan, function: UserFunction, watch: Stopwatch) -> None:
    kafka = plan.kafka_settings()
    settings = MemberSettings(slot=SLOT, owner=plan.group, kafka=kafka, max_batch_records=plan.batch)
    with wiring.member_ports(plan.services(), kafka, guarded=True) as ports:
        ends = dict(ports.admin.end_offsets(kafka.topics))
        timed = replace(ports, consumers=TimedConsumers(ports.consumers, watch))
        with Membership(timed, settings, LifeKind.WORKER, Summary()) as membership:
            Member(membership, function, Until(ends=ends)).run()


class TimedConsumers:
    """`ports.Consumers` with a stopwatch."""

    def __init__(self, consumers: Consumers, watch: Stopwatch) -> None:
        self._consumers, self._watch = consumers, watch

    def open(self, slot: str, listener: RebalanceListener) -> GroupConsumer:
        return _TimedConsumer(self._consumers.open(slot, listener), self._watch)


class _TimedConsumer:
    def __init__(self, consumer: GroupConsumer, watch: Stopwatch) -> None:
        self._consumer, self._watch = consumer, watch
        self.pause, self.resume = consumer.pause, consumer.resume
        self.assignment, self.close = consumer.assignment, consumer.close

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        polled = self._consumer.poll(max_records, timeout_s)
        if polled.batches:
            self._watch.records_came()
        return polled

    def commit(
        self, offsets: Mapping[Partition, tuple[int, int]]
    ) -> Mapping[Partition, tuple[CommitCode, str]]:
        answers = self._consumer.commit(offsets)
        self._watch.committed()
        return answers
