"""The leader: pure decisions, from its election to its end.

    out ──Elected──▶ raising ──EpochRaised──▶ loading ──LoadedAll──▶ open ──Deposed──▶ out

The order is S6: the epoch is raised, so that no older leader's vote can lead to a claim any more, and *then* the ledger is
loaded, so that no such claim is missed. A leader that loads before it raises, or votes before it has loaded, is stopped by an
assertion. Hellos are heard from `loading` on (what members have in hand enters the filter), votes are given in `open` only.

A ballot is three steps, because replication and the ledger come between them:

    Asked ─▶ Replicate ─▶ Replicated ─▶ AskLedger (about positives only) ─▶ FactsRead ─▶ Answer

Ids enter the filter and are reserved in the first, so no lock is held while others are waited for; the answer is the last, so
whatever a member was told, every standby in sync knows.

The reference of the shape is etcd-io/raft's: a step takes an event and returns ordered work, the driver owns all I/O. Time is an
argument. Not thread-safe: the driver's lock protects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import assert_never

import numpy as np

from airflow_kafka_exactly.errors import NotLeading
from airflow_kafka_exactly.protocol import leader_events as le
from airflow_kafka_exactly.protocol.desk import Desk, Query
from airflow_kafka_exactly.protocol.fencing import FenceWatch
from airflow_kafka_exactly.protocol.filter import VoteFilter
from airflow_kafka_exactly.protocol.votes import BallotAnswer, Digests, Notice, NoticeKind
from airflow_kafka_exactly.settings import FilterSettings, LeaseSettings

RELEASED_AGAIN_S = 2.0
"""Members are told of released doubts again so often, while there are any: a notice can be lost with its stream."""

Commands = tuple[le.Command, ...]
_OfficeEvent = le.Elected | le.EpochRaised | le.Collected | le.Loaded | le.LoadedAll | le.Deposed
_MemberEvent = le.Greeted | le.Asked | le.Replicated | le.FactsRead | le.Abandoned | le.DropAsked
_News = le.Ticked | le.LedgerLost | le.OverdueRead | le.LivesOver | le.Progressed | le.Released | le.Reopened


class Office(Enum):
    OUT = "out"
    RAISING = "raising"
    LOADING = "loading"
    OPEN = "open"


class Leader:
    def __init__(
        self, settings: FilterSettings, lease: LeaseSettings, filters: Mapping[str, VoteFilter] | None = None
    ) -> None:
        """`filters` are those it kept as a standby, by group."""
        self._settings = settings
        self._desks = {group: Desk(group, settings, kept) for group, kept in (filters or {}).items()}
        self._fences = FenceWatch(lease.fence_grace_s)
        self._office = Office.OUT
        self._epoch = 0
        self._queries: dict[int, Query] = {}
        self._greetings: set[int] = set()
        self._told_released: dict[str, float] = {}

    @property
    def office(self) -> Office:
        return self._office

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def desks(self) -> Mapping[str, Desk]:
        """By group, for snapshots and status."""
        return self._desks

    def step(self, event: le.Event, now: float) -> Commands:
        """What follows from `event`, in the order in which it must be done. `NotLeading` for a peer's request when there is no
        office, or when the peer has to say hello first."""
        match event:
            case (
                le.Elected() | le.EpochRaised() | le.Collected() | le.Loaded() | le.LoadedAll() | le.Deposed()
            ):
                return self._step_office(event, now)
            case (
                le.Greeted() | le.Asked() | le.Replicated() | le.FactsRead() | le.Abandoned() | le.DropAsked()
            ):
                return self._step_members(event)
            case _ if self._office is not Office.OPEN:
                return ()  # late news for a leader that has stood down
            case _:
                return self._step_news(event, now)

    def _step_office(self, event: _OfficeEvent, now: float) -> Commands:
        match event:
            case le.Elected():
                commands = self._elected()
            case le.EpochRaised():
                commands = self._epoch_raised(event)
            case le.Collected():
                commands = self._collected(event)
            case le.Loaded():
                commands = self._loaded(event)
            case le.LoadedAll():
                commands = self._loaded_all(event, now)
            case le.Deposed():
                commands = self._deposed()
            case _:
                assert_never(event)
        return commands

    def _step_members(self, event: _MemberEvent) -> Commands:
        match event:
            case le.Greeted():
                commands = self._greeted(event)
            case le.Asked():
                commands = self._asked(event)
            case le.Replicated():
                commands = self._replicated(event)
            case le.FactsRead():
                commands = self._facts_read(event)
            case le.Abandoned():
                commands = self._abandoned(event)
            case le.DropAsked():
                commands = self._drop_asked(event)
            case _:
                assert_never(event)
        return commands

    def _step_news(self, event: _News, now: float) -> Commands:
        match event:
            case le.Ticked():
                commands = self._ticked()
            case le.LedgerLost():
                commands = self._ledger_lost()
            case le.OverdueRead():
                commands = self._overdue_read(event, now)
            case le.LivesOver():
                commands = self._lives_over(event)
            case le.Progressed():
                commands = self._progressed(event)
            case le.Released():
                commands = self._released(event, now)
            case le.Reopened():
                commands = self._reopened(event)
            case _:
                assert_never(event)
        return commands

    # -- taking office -------------------------------------------------------------------------------------------------

    def _elected(self) -> Commands:
        assert self._office is Office.OUT, f"elected while {self._office.value}"
        self._office = Office.RAISING
        return (le.RaiseEpoch(),)

    def _epoch_raised(self, event: le.EpochRaised) -> Commands:
        assert self._office is Office.RAISING, f"an epoch was raised while {self._office.value}"
        assert event.epoch > self._epoch, "S4: epochs grow"
        self._epoch = event.epoch
        self._office = Office.LOADING
        return (le.CollectFilters(), le.LoadLedger(self._epoch))

    def _collected(self, event: le.Collected) -> Commands:
        self._desk(event.group_id).filter.absorb(event.filter)
        return ()

    def _loaded(self, event: le.Loaded) -> Commands:
        assert self._office in (Office.LOADING, Office.OPEN), (
            "S6: the ledger was loaded before the epoch was raised"
        )
        assert event.epoch == self._epoch, "S6: the ledger was loaded in an older epoch"
        desk = self._desk(event.group_id)
        desk.cluster_id = event.cluster_id or desk.cluster_id
        desk.load(event.ranges)
        desk.loaded_epoch = event.epoch
        if desk.rotating:
            desk.end_rotation()
        return ()

    def _loaded_all(self, event: le.LoadedAll, now: float) -> Commands:
        assert self._office is Office.LOADING, f"loaded while {self._office.value}"
        missing = [group for group in event.groups if not self._is_loaded(group)]
        assert event.epoch == self._epoch, "S6: the ledger was loaded in an older epoch"
        assert not missing, f"S6: opened without the ledger's ids of {missing}"
        self._office = Office.OPEN
        self._fences.answered(now)
        return (le.OpenOffice(self._epoch),)

    def _deposed(self) -> Commands:
        """Whatever was on its way is refused: its driver finds no ticket."""
        self._office = Office.OUT
        self._queries.clear()
        self._greetings.clear()
        self._fences.lost()
        self._told_released.clear()
        for desk in self._desks.values():
            desk.end_reign()
        return ()

    # -- members -------------------------------------------------------------------------------------------------------

    def _greeted(self, event: le.Greeted) -> Commands:
        if self._office not in (Office.LOADING, Office.OPEN):
            raise NotLeading(f"this contender is {self._office.value} of office")
        group = event.hello.life.group_id
        if self._office is Office.OPEN and not self._is_loaded(group):
            return (
                le.LoadLedger(self._epoch, (group,)),
            )  # a group that is new to the ledger; then greet again
        new = self._desk(group).greet(event.hello)
        self._greetings.add(event.ticket)
        return self._replicate(event.ticket, group, new) or self._welcome(event.ticket)

    def _asked(self, event: le.Asked) -> Commands:
        if self._office is not Office.OPEN:
            raise NotLeading(f"this contender gives no votes: {self._office.value}")
        life = event.ballot.life
        desk = self._desk(life.group_id)
        if life.slot not in desk.newest:
            raise NotLeading(
                f"slot {life.slot!r} has not said hello to this leader"
            )  # its in-hand ids come first
        if not self._is_loaded(life.group_id):
            return (le.LoadLedger(self._epoch, (life.group_id,)),)
        query, new = desk.ask(event.ballot)
        self._queries[event.ticket] = query
        return self._replicate(event.ticket, life.group_id, new) or self._ask_or_answer(event.ticket)

    def _replicated(self, event: le.Replicated) -> Commands:
        if event.ticket in self._greetings:
            return self._welcome(event.ticket)
        query = self._query(event.ticket)
        query.heard(event.known)
        return self._ask_or_answer(event.ticket)

    def _ask_or_answer(self, ticket: int) -> Commands:
        query = self._query(ticket)
        questions = query.questions()
        if questions:
            return (le.AskLedger(ticket, query.ballot.life.group_id, questions),)
        return self._facts_read(le.FactsRead(ticket, ()))

    def _facts_read(self, event: le.FactsRead) -> Commands:
        query = self._query(event.ticket)
        del self._queries[event.ticket]
        desk = self._desks[query.ballot.life.group_id]
        assert desk.loaded_epoch == self._epoch, "S6: a vote before the ledger was loaded"
        return (le.Answer(event.ticket, BallotAnswer(self._epoch, desk.judge(query, event.facts))),)

    def _abandoned(self, event: le.Abandoned) -> Commands:
        self._queries.pop(event.ticket, None)
        self._greetings.discard(event.ticket)
        return ()

    def _drop_asked(self, event: le.DropAsked) -> Commands:
        if self._office not in (Office.LOADING, Office.OPEN):
            raise NotLeading(f"this contender is {self._office.value} of office")
        self._desk(event.dropped.life.group_id).drop(event.dropped)
        return ()

    # -- the ledger's news ---------------------------------------------------------------------------------------------

    def _ticked(self) -> Commands:
        """Filters that are nearly full are rotated."""
        commands: list[le.Command] = []
        for group, desk in self._desks.items():
            if desk.filter.nearly_full and not desk.rotating and self._is_loaded(group):
                desk.begin_rotation()
            if desk.rotating:
                commands.append(le.LoadLedger(self._epoch, (group,)))
        return tuple(commands)

    def _overdue_read(self, event: le.OverdueRead, now: float) -> Commands:
        self._fences.answered(now)
        if not self._fences.may_fence(now):
            return ()  # they may just have got the ledger back, like us
        return tuple(le.FenceLife(self._epoch, life) for life in event.lives)

    def _ledger_lost(self) -> Commands:
        self._fences.lost()
        return ()

    def _lives_over(self, event: le.LivesOver) -> Commands:
        for life in event.lives:
            if life.group_id in self._desks:
                self._desks[life.group_id].over(life)
        return ()

    def _progressed(self, event: le.Progressed) -> Commands:
        self._desk(event.group_id).reservations.passed(event.frontiers)
        return ()

    def _released(self, event: le.Released, now: float) -> Commands:
        last = self._told_released.get(event.group_id, now - RELEASED_AGAIN_S)
        if event.count == 0 or now - last < RELEASED_AGAIN_S:
            return ()
        self._told_released[event.group_id] = now
        return (le.Notify(Notice(event.group_id, NoticeKind.RELEASED_DOUBTS)),)

    def _reopened(self, event: le.Reopened) -> Commands:
        self._desk(event.group_id).load(event.ranges)
        return ()

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _desk(self, group: str) -> Desk:
        if group not in self._desks:
            self._desks[group] = Desk(group, self._settings, VoteFilter(self._settings))
        return self._desks[group]

    def _is_loaded(self, group: str) -> bool:
        return group in self._desks and self._desks[group].loaded_epoch == self._epoch

    def _query(self, ticket: int) -> Query:
        if ticket not in self._queries:
            raise NotLeading("this contender was deposed while the vote was on its way")
        return self._queries[ticket]

    def _replicate(self, ticket: int, group: str, new: Digests) -> Commands:
        if len(new) == 0:
            return ()
        desk = self._desks[group]
        desk.sequence += 1
        return (le.Replicate(ticket, group, desk.sequence, np.ascontiguousarray(new)),)

    def _welcome(self, ticket: int) -> Commands:
        self._greetings.discard(ticket)
        return (le.Welcome(ticket, self._epoch),)
