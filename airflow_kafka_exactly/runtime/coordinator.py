"""A contender for leadership: the thread that contends, leads while it may, and follows otherwise.

    start ─▶ contend ─▶ follow the leader ◀──────────┐
                             │ elected               │ deposed, or a service is away
                             ▼                       │
                        take office ─▶ tick … ───────┘

ZooKeeper says who may lead; the ledger's epoch is what binds. A leader whose ledger stays away resigns when there is another
contender, because that one may reach it. Nothing here ends before `stop`: every error is logged, shown in `state` and
survived, with a pause that grows to `PAUSE_MAX_S`.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from airflow_kafka_exactly.errors import (
    ConfigurationError,
    KafkaExactlyError,
    NoLeader,
    NotLeading,
    StaleEpoch,
    Unavailable,
)
from airflow_kafka_exactly.ports import (
    Channel,
    ChannelServer,
    Clock,
    Directory,
    Election,
    LeaderLedger,
)
from airflow_kafka_exactly.runtime.draining import Admins, Draining
from airflow_kafka_exactly.runtime.leading import Leading
from airflow_kafka_exactly.runtime.status import CoordinatorState, describe
from airflow_kafka_exactly.runtime.upkeep import Upkeep
from airflow_kafka_exactly.runtime.world import World
from airflow_kafka_exactly.settings import ServiceSettings

log = logging.getLogger(__name__)

TICK_S = 1.0
DRAIN_EVERY_S = 2.0
FOLLOW_AGAIN_S = 0.2
PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 5.0
LEDGER_PATIENCE_S = 15.0
"""A leader without the ledger for so long lets another contender try."""
STOP_S = 1.0


@dataclass(slots=True, kw_only=True)
class Coordinator:
    """One per process. `admins` gives the Kafka admin of a group, or None when its connection is not known here. The election,
    the directory and the server are its own: it closes them."""

    election: Election
    directory: Directory
    server: ChannelServer
    channel: Channel
    ledger: LeaderLedger
    admins: Admins
    clock: Clock
    settings: ServiceSettings
    _leading: Leading = field(init=False, repr=False)
    _world: World = field(init=False, repr=False)
    _stopping: threading.Event = field(init=False, repr=False, default_factory=threading.Event)
    _wake: threading.Event = field(init=False, repr=False, default_factory=threading.Event)
    _wake_drain: threading.Event = field(init=False, repr=False, default_factory=threading.Event)
    _threads: list[threading.Thread] = field(init=False, repr=False, default_factory=list)
    _upkeep: Upkeep | None = field(init=False, repr=False, default=None)
    _draining: Draining | None = field(init=False, repr=False, default=None)
    _entered: bool = field(init=False, repr=False, default=False)
    _error: str = field(init=False, repr=False, default="")
    _pause_s: float = field(init=False, repr=False, default=PAUSE_MIN_S)
    _ledger_lost_at: float | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._world = World(
            election=self.election,
            directory=self.directory,
            server=self.server,
            channel=self.channel,
            ledger=self.ledger,
            clock=self.clock,
            settings=self.settings,
        )
        self._leading = Leading(self._world, self._wake.set)

    def start(self) -> None:
        """Serve and contend, in threads. `ConfigurationError` when the channel cannot be served; services that are away are
        waited for in the background."""
        assert not self._threads, "a coordinator starts once"
        self._leading.address = self.server.start(self._leading)
        for job, target in (("contender", self._contend), ("drain", self._drain)):
            thread = threading.Thread(target=target, name=f"kafka-exactly-{job}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Vote no more, resign, stop serving: within about a second each, whoever does not answer."""
        self._stopping.set()
        self._leading.stand_down()
        self._wake.set()
        self._wake_drain.set()
        resigning = threading.Thread(target=self.election.resign, name="kafka-exactly-resign", daemon=True)
        resigning.start()
        resigning.join(STOP_S)
        self.server.stop()
        for thread in self._threads:
            thread.join(STOP_S)
            if thread.is_alive():
                log.warning("%s still waits for a service and ends with its answer", thread.name)
        closing = threading.Thread(target=self.directory.close, name="kafka-exactly-close", daemon=True)
        closing.start()
        closing.join(STOP_S)

    def state(self) -> CoordinatorState:
        members, standbys = self._leading.connected()
        upkeep, draining = self._upkeep, self._draining
        return CoordinatorState(
            address=self._leading.address,
            role=self._leading.office,
            epoch=self._leading.epoch,
            fenced=upkeep.fenced if upkeep is not None else 0,
            members=members,
            standbys=standbys,
            groups=self._leading.group_states(draining.reasons if draining is not None else {}),
            follows=self._leading.follows,
            error=self._error,
        )

    # -- the contender's thread ----------------------------------------------------------------------------------------

    def _contend(self) -> None:
        while not self._stopping.is_set():
            try:
                self._enter()
                if self.election.leads():
                    self._lead()
                else:
                    self._follow()
            except (NoLeader, NotLeading) as nobody:
                log.debug("%s: %s", self._leading.address, nobody)
                self._rest(FOLLOW_AGAIN_S)
            except Exception as error:  # noqa: BLE001 - a contender that dies silently would leave everybody without a leader
                self._trouble(error)

    def _enter(self) -> None:
        if self._entered:
            return
        self.election.contend(self._leading.address, self._wake.set)
        self._entered = True
        if self._stopping.is_set():
            self.election.resign()  # `stop` came while ZooKeeper was waited for

    def _lead(self) -> None:
        self._leading.take_office()
        self._calm()
        self._upkeep = Upkeep(self._world, self._leading)
        self._draining = Draining(self._world, self._leading, self.admins)
        self._wake_drain.set()
        try:
            while not self._stopping.is_set() and self.election.leads() and self._leading.epoch:
                self._tick(self._upkeep)
                self._wake.wait(TICK_S)
                self._wake.clear()
        finally:
            self._leading.stand_down()
            self._draining = None

    def _tick(self, upkeep: Upkeep) -> None:
        try:
            upkeep.tick()
        except Unavailable as outage:
            self._error = describe(outage)
            log.warning("the leader goes on without a tick: %s", outage)
            self._let_another_try()
        else:
            self._calm()
            self._error = upkeep.trouble

    def _let_another_try(self) -> None:
        """Resign when the ledger has been away for long, and somebody else contends."""
        now = self.clock.now()
        if self._ledger_lost_at is None:
            self._ledger_lost_at = now
        if now - self._ledger_lost_at < LEDGER_PATIENCE_S:
            return
        self._ledger_lost_at = now
        if len(self.directory.contenders()) > 1:
            log.warning(
                "%s resigns: the ledger has been away for %.0f s", self._leading.address, LEDGER_PATIENCE_S
            )
            self._leading.stand_down()
            self._leave()

    def _leave(self) -> None:
        self._entered = False
        self.election.resign()

    def _follow(self) -> None:
        leader = self.directory.leader_address()
        if leader is None or leader == self._leading.address:
            self._rest(FOLLOW_AGAIN_S)
            return
        try:
            self.channel.follow(leader, self._leading.address, self._leading, self._no_longer_follows)
        finally:
            self._leading.follows = False
        self._rest(FOLLOW_AGAIN_S)

    def _no_longer_follows(self) -> bool:
        if self._leading.follows:
            self._calm()
        return self._stopping.is_set() or self.election.leads()

    # -- the draining thread -------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        while not self._stopping.is_set():
            draining = self._draining
            if draining is not None:
                self._drain_round(draining)
            self._wake_drain.wait(DRAIN_EVERY_S)
            self._wake_drain.clear()

    def _drain_round(self, draining: Draining) -> None:
        try:
            draining.round()
        except StaleEpoch as newer:
            log.warning("a newer leader was seen while draining: %s", newer)
            self._leading.stand_down()
            self._wake.set()
        except (NotLeading, Unavailable) as error:
            log.info("orphan commits wait: %s", error)
        except Exception:
            log.exception("orphan commits wait: draining failed")

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _trouble(self, error: Exception) -> None:
        self._error = describe(error)
        if isinstance(error, KafkaExactlyError):
            log.warning("%s: %s", self._leading.address, self._error)
        else:
            log.error("%s failed", self._leading.address, exc_info=error)
        self._rest(self._pause_s)
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        if self._entered and self.election.leads():
            self._cannot_lead(error)

    def _cannot_lead(self, error: Exception) -> None:
        """Elected, but not in office: another contender may be set up better, or reach the ledger."""
        try:
            if isinstance(error, ConfigurationError):
                self._leave()
            elif isinstance(error, Unavailable):
                self._let_another_try()
        except KafkaExactlyError as more:
            log.warning("%s: %s", self._leading.address, more)

    def _calm(self) -> None:
        self._error, self._pause_s, self._ledger_lost_at = "", PAUSE_MIN_S, None

    def _rest(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()
