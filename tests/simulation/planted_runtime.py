"""Faults to plant in the member, the leader and the evidence check."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from simulation.planted_ledger import planted

from airflow_kafka_exactly.errors import Fenced, Unavailable
from airflow_kafka_exactly.protocol import evidence as judging
from airflow_kafka_exactly.protocol import leader_events as le
from airflow_kafka_exactly.protocol.breaker import Breaker
from airflow_kafka_exactly.protocol.claims import Verdict
from airflow_kafka_exactly.protocol.desk import Desk, Query, _joined
from airflow_kafka_exactly.protocol.orphans import Drain
from airflow_kafka_exactly.protocol.votes import Vote
from airflow_kafka_exactly.runtime.commits import OffsetCommitter
from airflow_kafka_exactly.runtime.function import Attempt, Tried, UserFunction
from airflow_kafka_exactly.runtime.leading import Leading
from airflow_kafka_exactly.runtime.lease import LeaseKeeper
from airflow_kafka_exactly.runtime.member import Member
from airflow_kafka_exactly.runtime.membership import Membership
from airflow_kafka_exactly.runtime.polling import Poller
from airflow_kafka_exactly.runtime.running import Runner
from airflow_kafka_exactly.runtime.trying import Trier

# -- S1: trust ---------------------------------------------------------------------------------------------------------


@planted
def trust_window_ignored() -> None:
    """Neither the look before each record nor the guard."""
    LeaseKeeper.trusted = lambda _: True  # type: ignore[method-assign]
    LeaseKeeper._renewed = lambda self, asked_at: self._trust.renewed(asked_at)  # type: ignore[method-assign]


@planted
def guard_never_told() -> None:
    LeaseKeeper._renewed = lambda self, asked_at: self._trust.renewed(asked_at)  # type: ignore[method-assign]


@planted
def lease_counted_from_the_answer() -> None:
    renewed = LeaseKeeper._renewed
    LeaseKeeper._renewed = lambda self, _: renewed(self, self._clock.now())  # type: ignore[method-assign]


@planted
def fenced_renewals_tried_again() -> None:
    """A life that is over believes in itself because its renewals are 'only' refused."""

    def renew(self: Any, life: Any) -> None:
        asked_at = self._clock.now()
        with contextlib.suppress(Unavailable, Fenced):
            self._ledger.renew(life, self._settings.lease_s)
        self._renewed(asked_at)

    LeaseKeeper._renew = renew  # type: ignore[method-assign]


# -- S3: the order of writes -------------------------------------------------------------------------------------------


@planted
def started_not_written() -> None:
    mark = Runner._mark
    Runner._mark = lambda self, claim, _, applied: mark(self, claim, applied, applied)  # type: ignore[method-assign]


@planted
def applied_before_the_effect() -> None:
    deal_with = Runner._deal_with

    def early(self: Any, claim: Any, raws: Any, stop: int) -> bool:
        self._mark(claim, stop, stop)
        return deal_with(self, claim, raws, stop)

    Runner._deal_with = early  # type: ignore[method-assign]


@planted
def commit_before_settled() -> None:
    note = Member._note

    def hasty(self: Any, result: Any, held: Any) -> None:
        note(self, result, held)
        self._in.committer.offer({c.partition: c.range.stop for c in result.granted})

    Member._note = hasty  # type: ignore[method-assign]


@planted
def commit_after_revoke() -> None:
    """What is lost stays wanted, and the assignment is not looked at."""
    OffsetCommitter.lost = lambda *_: None  # type: ignore[method-assign]
    OffsetCommitter.commit = lambda self: self._commit(frozenset(self._wanted))  # type: ignore[method-assign]


@planted
def positions_beyond_the_frontier() -> None:
    assigned = Poller.assigned

    def beyond(self: Any, openings: Any) -> Any:
        return {p: start + (1 if start else 0) for p, start in assigned(self, openings).items()}

    Poller.assigned = beyond  # type: ignore[method-assign]


# -- S7: exceptions, evidence ------------------------------------------------------------------------------------------


@planted
def exception_taken_as_proof() -> None:
    external = UserFunction.external

    def tried(self: Any, records: Any) -> Tried:
        found = external(self, records)
        return replace(found, attempt=Attempt.NOT_APPLIED) if found.attempt is not Attempt.APPLIED else found

    UserFunction.external = tried  # type: ignore[method-assign]


@planted
def exception_swallowed() -> None:
    external = UserFunction.external

    def tried(self: Any, records: Any) -> Tried:
        external(self, records)
        return Tried(Attempt.APPLIED)

    UserFunction.external = tried  # type: ignore[method-assign]


def module(name: str, new: Callable[..., Any]) -> None:
    setattr(judging, name, new)


@planted
def effect_timeout_ignored() -> None:
    module("_unripe_window", judging._without_payload)


@planted
def window_decided_by_the_ledger() -> None:
    module("_by_check", lambda facts, _: judging._by_ledger(facts))


@planted
def undecidable_is_redone() -> None:
    module("_by_policy", lambda _, why: judging.Decided(Verdict.NOT_APPLIED, "policy", why))


@planted
def undecidable_is_discarded() -> None:
    module("_by_policy", lambda _, why: judging.Decided(Verdict.APPLIED, "policy", why))


@planted
def doubted_by_vote_is_discarded() -> None:
    """'The leader has heard of it' is taken for 'it was done'."""
    module("_by_ledger", lambda _: judging.Decided(Verdict.APPLIED, "ledger", "it was heard of"))


@planted
def every_raised_record_is_buried() -> None:
    """Without a ruling."""
    Runner._doubt = Runner._bury  # type: ignore[method-assign]


@planted
def check_is_asked_at_once_and_believed() -> None:
    """Its "no" counts although the call may still be under way in the target."""
    Trier._asked = lambda self, records, _: self._function.ask(records)  # type: ignore[method-assign]


@planted
def vouched_exception_counts_as_applied() -> None:
    external = UserFunction.external

    def tried(self: Any, records: Any) -> Tried:
        found = external(self, records)
        done = self.vouches and found.attempt is Attempt.NOT_APPLIED
        return Tried(Attempt.APPLIED) if done else found

    UserFunction.external = tried  # type: ignore[method-assign]


@planted
def buried_after_the_first_try() -> None:
    Breaker.again = lambda *_: False  # type: ignore[method-assign]
    Breaker.blames = lambda *_, **__: True  # type: ignore[method-assign]


@planted
def interrupted_effect_counts_as_applied() -> None:
    """A task that is ended in the middle of an effect."""

    leave = Runner._leave

    def marked(self: Any, claim: Any, why: BaseException) -> None:
        if self._trier.begun:
            self._settled(self._trying.stop)
        leave(self, claim, why)

    Runner._leave = marked  # type: ignore[method-assign]


@planted
def interrupted_effect_is_given_back() -> None:
    leave = Runner._leave

    def given_back(self: Any, claim: Any, why: BaseException) -> None:
        self._trier.begun = False
        leave(self, claim, why)

    Runner._leave = given_back  # type: ignore[method-assign]


@planted
def the_policy_is_not_looked_at() -> None:
    """A person is asked in any case."""
    module("_by_policy", lambda _, why: judging.AskPerson(why))


@planted
def policies_decide_what_a_check_can() -> None:
    by_check = judging._by_check

    def chosen(facts: Any, answer: Any) -> Any:
        return by_check(replace(facts, check=replace(facts.check, path="")), answer)

    module("_by_check", chosen)


# -- the end -----------------------------------------------------------------------------------------------------------


@planted
def until_the_end_ends_at_once() -> None:
    Membership.ended_at = lambda *_: True  # type: ignore[method-assign]


@planted
def until_any_partition_is_at_its_end() -> None:
    def ended(self: Any, ends: Any) -> bool:
        frontiers = self.frontiers()
        return any(frontiers.get(partition, 0) >= end for partition, end in ends.items())

    Membership.ended_at = ended  # type: ignore[method-assign]


@planted
def until_the_end_never_ends() -> None:
    Membership.ended_at = lambda *_: False  # type: ignore[method-assign]


@planted
def ends_of_topics_that_are_gone_are_waited_for() -> None:
    Membership._look_for_gone = lambda *_: None  # type: ignore[method-assign]


# -- S6: the leader ----------------------------------------------------------------------------------------------------


@planted
def vote_before_the_ledger_is_loaded() -> None:
    Leading._loaded = lambda _, epoch, group: le.Loaded(epoch, group, "memory", ())  # type: ignore[method-assign]


@planted
def load_before_the_epoch_is_raised() -> None:
    """What is loaded is what the ledger held when the contender was elected."""
    take_office, loaded = Leading.take_office, Leading._loaded

    def early(self: Any) -> None:
        ledger = self._world.ledger
        self.early = {group: ledger.load(group) for group in ledger.groups()}
        take_office(self)

    def stale(self: Any, epoch: int, group: str) -> Any:
        known = self.early.get(group)
        return (
            le.Loaded(epoch, group, known.cluster_id, known.ranges) if known else loaded(self, epoch, group)
        )

    Leading.take_office, Leading._loaded = early, stale  # type: ignore[method-assign]


@planted
def asked_ids_not_remembered() -> None:
    def ask(self: Any, ballot: Any) -> Any:
        known = [self.filter.test(part.digests) for part in ballot.parts]
        return Query(ballot, known), _joined(
            [p.digests[~k] for p, k in zip(ballot.parts, known, strict=True)]
        )

    Desk.ask = ask  # type: ignore[method-assign]


@planted
def leadership_not_looked_at() -> None:
    Leading.must_lead = lambda _: None  # type: ignore[method-assign]


@planted
def everything_known_is_settled() -> None:
    """A vote `settled` for whatever the filter knows, and the member believes it instead of asking the arbiter."""
    note = Member._note

    def believing(self: Any, result: Any, held: Any) -> None:
        note(self, result, held)
        self._in.committer.offer({p: ranges[-1].stop for p, ranges in result.doubted.items()})
        self._in.committer.offer({p: ranges[-1].stop for p, ranges in result.settled.items()})

    Member._note = believing  # type: ignore[method-assign]
    assert Vote.SETTLED


@planted
def alter_past_the_frontier() -> None:
    alter = Drain._alter

    def beyond(self: Any, orphans: Any, view: Any) -> Any:
        return alter(self, orphans, replace(view, frontiers={p: f + 1 for p, f in view.frontiers.items()}))

    Drain._alter = beyond  # type: ignore[method-assign]
