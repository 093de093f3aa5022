"""Drives the pure leader: takes office, serves members and standbys, carries out what `Leader.step` orders.

Leadership is looked at before *and* after each vote: before, because a deposed leader has no business asking; after, because it
may have been deposed while standbys or the ledger were waited for. Votes of different groups never wait for each other; within a
group, additions are sent to the standbys in the order in which they were numbered.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import numpy as np

from airflow_kafka_exactly.errors import KafkaExactlyError, NotLeading, Unavailable
from airflow_kafka_exactly.ports import Addition, FilterSnapshot
from airflow_kafka_exactly.protocol import leader_events as le
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.filter import Known, VoteFilter
from airflow_kafka_exactly.protocol.leader import Commands, Leader, Office
from airflow_kafka_exactly.protocol.standby import Standby
from airflow_kafka_exactly.protocol.votes import Ballot, BallotAnswer, Dropped, Fact, Hello
from airflow_kafka_exactly.runtime.status import GroupState, group_state
from airflow_kafka_exactly.runtime.world import World

log = logging.getLogger(__name__)

COLLECT_TIMEOUT_S = 3.0
"""For all standbys together. A missing filter costs nothing that the ledger does not hold (S6)."""
COLLECT_THREADS = 8


class Leading:
    """One contender's `LeaderHandler`, whether it leads or not, and its `StandbyHandler` while it follows. `news` is called when
    a member or a standby is gone."""

    def __init__(self, world: World, news: Callable[[], None]) -> None:
        self._world, self._news = world, news
        self._lock = threading.Lock()
        """Protects everything below. Never held while somebody else is waited for."""
        self._leader: Leader | None = None
        self._standby = Standby(world.settings.filter)
        self._members: set[Life] = set()
        self._standbys: set[str] = set()
        self._orders: dict[str, threading.Lock] = {}
        self._tickets = itertools.count(1)
        self.address = ""
        """Our own, known once the server has started."""
        self.follows = False
        """Whether the filters of a leader are loaded and kept up with."""

    # -- in and out of office ------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Of the current reign; 0 when there is none."""
        leader = self._leader
        return leader.epoch if leader is not None and leader.office is Office.OPEN else 0

    @property
    def office(self) -> str:
        leader = self._leader
        return "standby" if leader is None else leader.office.value

    def take_office(self) -> None:
        """Raise the epoch, collect, load, open (S6). Any error leaves this contender out of office."""
        with self._lock:
            self._leader = Leader(
                self._world.settings.filter, self._world.settings.lease, self._standby.filters
            )
        try:
            waiting = list(self.step(le.Elected()))
            while waiting:
                self.must_lead()
                for event in self._office_events(waiting.pop(0)):
                    waiting.extend(self.step(event))
        except BaseException:
            self.stand_down()
            raise

    def stand_down(self) -> None:
        """At once: no vote leaves from here any more. Members and standbys are sent to look for the leader again. What was heard
        is kept as a standby's knowledge."""
        with self._lock:
            leader, self._leader = self._leader, None
            if leader is None:
                return
            leader.step(le.Deposed(), self._world.clock.now())
            filters = {group: desk.filter for group, desk in leader.desks.items()}
            self._standby = Standby(self._world.settings.filter, filters)
            self._members.clear()
            self._standbys.clear()
        log.warning("stood down as the leader of epoch %d", leader.epoch)
        self._world.server.dismiss()

    def must_lead(self) -> None:
        if not self._world.election.leads():
            raise NotLeading(f"{self.address} does not lead")

    def step(self, event: le.Event) -> Commands:
        with self._lock:
            if self._leader is None:
                raise NotLeading(f"{self.address} does not lead")
            return self._leader.step(event, self._world.clock.now())

    def load_groups(self, command: le.LoadLedger) -> None:
        """Of named groups: new ones, or for a rotation."""
        for group in command.groups:
            self.step(self._loaded(command.epoch, group))

    def groups(self) -> Sequence[str]:
        """Of the current reign."""
        with self._lock:
            return [] if self._leader is None else list(self._leader.desks)

    def group_states(self, waits: Mapping[str, str]) -> tuple[GroupState, ...]:
        """`waits`: why a group's orphan commits wait."""
        with self._lock:
            desks = [] if self._leader is None else list(self._leader.desks.values())
            return tuple(group_state(desk, waits.get(desk.group_id, "")) for desk in desks)

    def connected(self) -> tuple[tuple[Life, ...], tuple[str, ...]]:
        """Members that said hello to this reign and whose streams have not broken, and standbys that follow."""
        with self._lock:
            members = sorted(self._members, key=lambda m: (m.group_id, m.slot, m.incarnation))
            return tuple(members), tuple(sorted(self._standbys))

    def holders(self) -> tuple[Life, ...]:
        with self._lock:
            desks = {} if self._leader is None else self._leader.desks
            return tuple(life for desk in desks.values() for life in desk.holders())

    def _office_events(self, command: le.Command) -> Sequence[le.Event]:
        match command:
            case le.RaiseEpoch():
                return [le.EpochRaised(self._world.ledger.raise_epoch(self.address))]
            case le.CollectFilters():
                return self._collected()
            case le.LoadLedger(epoch=epoch):
                groups = tuple(self._world.ledger.groups())
                return [*(self._loaded(epoch, group) for group in groups), le.LoadedAll(epoch, groups)]
            case le.OpenOffice(epoch=epoch):
                log.warning("%s leads, epoch %d", self.address, epoch)
                return []
            case _:
                raise AssertionError(f"{command} while taking office")

    def _loaded(self, epoch: int, group: str) -> le.Loaded:
        known = self._world.ledger.load(group)
        return le.Loaded(epoch, group, known.cluster_id, known.ranges)

    def _collected(self) -> list[le.Event]:
        others = [address for address in self._world.directory.contenders() if address != self.address]
        if not others:
            return []
        pool = ThreadPoolExecutor(COLLECT_THREADS, thread_name_prefix="kafka-exactly-collect")
        asked = {pool.submit(self._world.channel.collect, address): address for address in others}
        done, _ = wait_for(asked, COLLECT_TIMEOUT_S)
        pool.shutdown(wait=False, cancel_futures=True)
        events: list[le.Event] = []
        for future in done:
            try:
                snapshots = future.result()
                events += [le.Collected(s.group_id, self._restored(s)) for s in snapshots]
            except (KafkaExactlyError, ValueError) as error:
                log.info("no filter from %s: %s", asked[future], error)
        return events

    def _restored(self, snapshot: FilterSnapshot) -> VoteFilter:
        return VoteFilter.from_bytes(self._world.settings.filter, snapshot.data)

    # -- the channel's handler: members --------------------------------------------------------------------------------

    def hello(self, hello: Hello) -> int:
        self.must_lead()
        done = self._serve(hello.life.group_id, lambda ticket: le.Greeted(ticket, hello))
        assert isinstance(done, le.Welcome)
        self.must_lead()
        with self._lock:
            self._members.add(hello.life)
        return done.epoch

    def vote(self, ballot: Ballot) -> BallotAnswer:
        self.must_lead()
        done = self._serve(ballot.life.group_id, lambda ticket: le.Asked(ticket, ballot))
        assert isinstance(done, le.Answer)
        self.must_lead()
        return done.answer

    def drop(self, dropped: Dropped) -> None:
        self.must_lead()
        self.step(le.DropAsked(dropped))

    def member_gone(self, life: Life) -> None:
        with self._lock:
            self._members.discard(life)
        self._news()

    def _serve(self, group: str, request: Callable[[int], le.Event]) -> le.Command:
        ticket = next(self._tickets)
        try:
            command = self._replicated(group, ticket, request(ticket))
            if isinstance(command, le.AskLedger):
                (command,) = self.step(le.FactsRead(ticket, self._facts(command)))
        except BaseException:
            self._abandon(ticket)
            raise
        return command

    def _replicated(self, group: str, ticket: int, request: le.Event) -> le.Command:
        """Up to the point where every standby in sync knows what was asked."""
        with self._order(group):
            (command,) = self.step(request)
            if isinstance(command, le.LoadLedger):
                self._load_for_member(command)
                (command,) = self.step(request)
            if isinstance(command, le.Replicate):
                (command,) = self.step(le.Replicated(ticket, self._replicate(command)))
        return command

    def _replicate(self, command: le.Replicate) -> Known:
        """Returns which digests any standby had known (union)."""
        addition = Addition(command.group_id, command.sequence, command.digests)
        known = np.zeros(len(command.digests), dtype=np.bool_)
        for answer in self._world.server.replicate(addition).values():
            known |= np.asarray(answer, dtype=np.bool_)
        return known

    def _facts(self, command: le.AskLedger) -> tuple[Sequence[Fact], ...]:
        try:
            return tuple(
                self._world.ledger.facts(command.group_id, partition, offsets)
                for partition, offsets in command.questions
            )
        except Unavailable:
            self._ledger_lost()
            raise

    def _load_for_member(self, command: le.LoadLedger) -> None:
        try:
            self.load_groups(command)
        except Unavailable:
            self._ledger_lost()
            raise

    def _ledger_lost(self) -> None:
        with self._lock:
            if self._leader is not None:
                self._leader.step(le.LedgerLost(), self._world.clock.now())

    def _abandon(self, ticket: int) -> None:
        with self._lock:
            if self._leader is not None:
                self._leader.step(le.Abandoned(ticket), self._world.clock.now())

    def _order(self, group: str) -> threading.Lock:
        with self._lock:
            return self._orders.setdefault(group, threading.Lock())

    # -- the channel's handler: standbys -------------------------------------------------------------------------------

    def follow(self, standby: str) -> Sequence[FilterSnapshot]:
        self.must_lead()
        with self._lock:
            if self._leader is None or self._leader.office is not Office.OPEN:
                raise NotLeading(f"{self.address} does not lead")
            self._standbys.add(standby)
            return [FilterSnapshot(g, d.sequence, d.filter.to_bytes()) for g, d in self._leader.desks.items()]

    def standby_gone(self, standby: str) -> None:
        with self._lock:
            self._standbys.discard(standby)
        self._news()

    def snapshots(self) -> Sequence[FilterSnapshot]:
        with self._lock:
            if self._leader is not None:
                return [
                    FilterSnapshot(g, d.sequence, d.filter.to_bytes()) for g, d in self._leader.desks.items()
                ]
            return [FilterSnapshot(g, 0, kept.to_bytes()) for g, kept in self._standby.filters.items()]

    # -- the handler of the leader that this contender follows ---------------------------------------------------------

    def load(self, snapshots: Sequence[FilterSnapshot]) -> None:
        with self._lock:
            self._standby.load([(s.group_id, s.sequence, s.data) for s in snapshots])
        self.follows = True

    def add(self, addition: Addition) -> Sequence[bool]:
        with self._lock:
            known = self._standby.add(addition.group_id, addition.sequence, addition.digests)
        answer: list[bool] = known.tolist()
        return answer
