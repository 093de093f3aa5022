"""What a member is, whether it works (in a worker) or waits (in a triggerer): a life in the ledger, a lease, a place in the
consumer group, and a link to the leader. Opened in that order (section 4.1), closed without leaving the group.
"""

from __future__ import annotations

import logging
import os
import random
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from airflow_kafka_exactly.errors import GroupInUse, KafkaExactlyError, TopicMissing, Unavailable
from airflow_kafka_exactly.ports import (
    Channel,
    Clock,
    Consumers,
    Directory,
    EffectGuard,
    KafkaAdmin,
    MemberLedger,
)
from airflow_kafka_exactly.protocol.claims import CheckReference, Life, LifeKind, OpenLife
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.background import Background
from airflow_kafka_exactly.runtime.commits import OffsetCommitter
from airflow_kafka_exactly.runtime.lease import LeaseKeeper
from airflow_kafka_exactly.runtime.polling import Poller
from airflow_kafka_exactly.runtime.renewals import Renewals
from airflow_kafka_exactly.runtime.shared import Shared
from airflow_kafka_exactly.runtime.voting import LeaderFinder, Voter
from airflow_kafka_exactly.settings import MemberSettings

log = logging.getLogger(__name__)
CLOSE_S = 5.0
LEADER_TIMEOUT_S = 120.0
LOOK_AT_TOPICS_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPorts:
    """The world as one member sees it."""

    ledger: MemberLedger
    consumers: Consumers
    admin: KafkaAdmin
    directory: Directory
    channel: Channel
    clock: Clock
    guard: EffectGuard
    renewals: Renewals = field(default_factory=Renewals)
    """Of the process: hundreds of waiting members share them."""
    chance: Callable[[], float] = random.random
    """In [0, 1); a simulator gives its own."""


class Membership:
    """A context manager; inside of it everything runs."""

    def __init__(
        self,
        ports: MemberPorts,
        settings: MemberSettings,
        kind: LifeKind,
        summary: Summary,
        *,
        check: CheckReference | None = None,
        leader_timeout_s: float = LEADER_TIMEOUT_S,
    ) -> None:
        self.ports, self.settings, self.summary = ports, settings, summary
        self._kind, self._leader_timeout_s = kind, leader_timeout_s
        self._check = check or CheckReference()
        self.background = Background(settings.slot, ports.clock)
        self.lease = LeaseKeeper(ports.ledger, settings.lease, ports.clock, ports.guard, self.background)
        self.cluster_id = ""
        self._entered = False
        self._gone: set[Partition] = set()
        self._topics_at = float("-inf")

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- opening, in this order

    def _open(self) -> None:
        ports, settings, kafka = self.ports, self.settings, self.settings.kafka
        # Each service is asked before anything is opened, so that a wrong setting is told at once (case 21).
        self.cluster_id = ports.admin.cluster_id()
        ports.admin.topics(kafka.topics)
        ports.directory.leader_address()  # whoever that is: none is waited for later
        if self._kind is LifeKind.WORKER:
            self._refuse_strangers()
        self.background.check()  # told to stop meanwhile: no life is opened
        self.life = self._open_life()
        shared = Shared(
            life=self.life,
            cluster_id=self.cluster_id,
            settings=settings,
            ledger=ports.ledger,
            clock=ports.clock,
            background=self.background,
            summary=self.summary,
            chance=ports.chance,
        )
        self.committer = OffsetCommitter(shared)
        finder = LeaderFinder(ports.directory, ports.channel, shared)
        self.poller = Poller(ports.consumers, self.committer, shared, finder.forget)
        self.voter = Voter(finder, self.poller.hand, shared, self._leader_timeout_s)
        self.shared = shared
        self._enter_directory()
        ports.renewals.keep(self.lease, self.life)
        if (
            self._kind is LifeKind.WORKER
        ):  # a waiting member polls in its one thread, and has no records to ask about
            self.background.spawn("poll", self.poller.run)
            self.background.spawn("vote", self.voter.run)
        self._entered = True

    def _refuse_strangers(self) -> None:
        """A member without a `group.instance.id` is not one of ours: it would take partitions and commit what it likes. Only
        workers look, which is before anything waits in a triggerer: this question ends the process, with everybody's triggers,
        when the group's coordinator does not answer (librdkafka issue 4605)."""
        if "" in self.ports.admin.instances(self.settings.kafka.group_id):
            raise GroupInUse(
                f"consumer group {self.settings.kafka.group_id!r} has members that are not of this package (no "
                "group.instance.id): stop them, or give the operator a group_id of its own."
            )

    def _open_life(self) -> Life:
        asked_at = self.ports.clock.now()
        life = self.ports.ledger.open_life(
            OpenLife(
                group_id=self.settings.kafka.group_id,
                cluster_id=self.cluster_id,
                slot=self.settings.slot,
                owner=self.settings.owner,
                kind=self._kind,
                process=f"{socket.gethostname()}:{os.getpid()}",
                lease_s=self.settings.lease.lease_s,
                check=self._check,
                kafka_connection=self.settings.kafka.connection,
                dag_id=self.settings.dag_id,
                task_id=self.settings.task_id,
            )
        )
        self.lease.opened(asked_at)
        log.info("%s: life %d opened (%s)", life.slot, life.incarnation, self._kind)
        return life

    def _enter_directory(self) -> None:
        """For people only, so that ZooKeeper being away does not matter here."""
        try:
            self.ports.directory.enter(f"{self.life.slot}#{self.life.incarnation}")
        except KafkaExactlyError as away:
            log.warning("not shown as alive: %s", away)

    # -- while it runs

    def frontiers(self) -> Mapping[Partition, int]:
        """Of all the group's partitions, as the ledger has them."""
        kafka = self.settings.kafka
        return self.background.persist(
            lambda: self.ports.ledger.frontiers(kafka.group_id, kafka.topics), "reading the frontiers"
        )

    def ended_at(self, ends: Mapping[Partition, int]) -> bool:
        """Whether the group's frontiers have reached these ends. Those of a topic that was deleted since count no longer."""
        frontiers = self.frontiers()
        missing = {partition for partition, end in ends.items() if frontiers.get(partition, 0) < end}
        if missing - self._gone and self.ports.clock.now() >= self._topics_at:
            self._topics_at = self.ports.clock.now() + LOOK_AT_TOPICS_EVERY_S
            self._look_for_gone(missing - self._gone)
        return missing <= self._gone

    def _look_for_gone(self, partitions: Iterable[Partition]) -> None:
        """Partitions whose topic's name means another topic now: nobody will ever read them to an end."""
        try:
            facts = self.ports.admin.topics(self.settings.kafka.topics)
        except (TopicMissing, Unavailable) as unknown:
            log.info("%s: topic ids not looked up: %s", self.settings.slot, unknown)
            return
        gone = {p for p in partitions if p.topic in facts and facts[p.topic].topic_id != p.topic_id}
        if gone:
            self._gone |= gone
            log.warning(
                "%s: deleted and made again under the same name, so their ends are not waited for: %s",
                *(self.settings.slot, ", ".join(map(str, sorted(gone)))),
            )

    # -- closing

    def close(self) -> None:
        """Stop the threads (the polling one commits what is due), sign off. Never leaves the group; at most `CLOSE_S`."""
        self.background.stop(CLOSE_S)
        self.ports.renewals.forget(self.lease)
        if self._entered:
            self._quietly("closing the leader's link", self.voter.close)
            self._quietly("signing off", lambda: self.ports.ledger.close_life(self.life))
            self._quietly(
                "leaving the directory",
                lambda: self.ports.directory.leave(f"{self.life.slot}#{self.life.incarnation}"),
            )
        self.ports.guard.close()

    @staticmethod
    def _quietly(what: str, do: Callable[[], None]) -> None:
        """Closing goes on whatever fails: the lease, the fence and the sweep finish what this could not."""
        try:
            do()
        except Exception as failure:  # noqa: BLE001 - nothing that is left open here is lost, see above
            log.warning("%s: %s", what, failure)
