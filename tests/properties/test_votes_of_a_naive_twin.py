"""The leader against a naive twin that keeps a Python set and a dictionary instead of a filter and ranges.

With a filter whose error rate is next to nothing both must answer alike, whatever happens in whatever order; with a crowded
filter the leader may only ask the ledger more often. S6 is looked at directly: what was ever asked about is known.
"""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_kafka_exactly.protocol import leader_events as le
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.filter import VoteFilter
from airflow_kafka_exactly.protocol.identity import offset_digests, range_digests
from airflow_kafka_exactly.protocol.leader import Leader
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.reservations import Reservations
from airflow_kafka_exactly.protocol.votes import Ballot, BallotPart, Dropped, Fact, Hello, Vote
from airflow_kafka_exactly.settings import FilterSettings, LeaseSettings

PARTITIONS = (Partition("id", 0, "t"), Partition("id", 1, "t"))
SLOTS = ("a", "b", "c")
EXACT = FilterSettings(capacity=3000, error_rate=1e-9)
CROWDED = FilterSettings(capacity=1000, error_rate=0.1)

Id = tuple[Partition, int]


@dataclass
class Twin:
    """What the leader is meant to do, said with sets."""

    heard: set[Id] = field(default_factory=set)
    reserved: dict[Id, str] = field(default_factory=dict)

    def vote(self, slot: str, record: Id, fact: Fact) -> Vote:
        known = record in self.heard
        self.heard.add(record)
        if known and fact is Fact.SETTLED:
            return Vote.SETTLED
        if known and (fact is not Fact.UNKNOWN or self.reserved.get(record, slot) != slot):
            return Vote.DOUBTFUL
        self.reserved.setdefault(record, slot)
        return Vote.FRESH

    def drop(self, slot: str, partitions: set[Partition]) -> None:
        self.reserved = {r: s for r, s in self.reserved.items() if s != slot or r[0] not in partitions}


class Pair:
    def __init__(self, filter_settings: FilterSettings) -> None:
        self.leader, self.twin = Leader(filter_settings, LeaseSettings()), Twin()
        for event in (le.Elected(), le.EpochRaised(1), le.Loaded(1, "g", "c", ()), le.LoadedAll(1, ("g",))):
            self.leader.step(event, 0.0)
        for slot in SLOTS:
            self.leader.step(le.Greeted(0, Hello(life(slot), "c", ())), 0.0)
        self.ledger: dict[Id, Fact] = {}
        self.asked: set[Id] = set()
        self.ticket = 0

    def vote(self, slot: str, partition: Partition, start: int, stop: int) -> tuple[list[int], list[int]]:
        self.ticket += 1
        offsets = OffsetRange(start, stop)
        ballot = Ballot(
            life(slot), (BallotPart(partition, offsets, np.arange(start, stop), digests(partition, offsets)),)
        )
        commands = self.leader.step(le.Asked(self.ticket, ballot), 0.0)
        if isinstance(commands[0], le.Replicate):
            nobody = np.zeros(len(commands[0].digests), dtype=np.bool_)
            commands = self.leader.step(le.Replicated(self.ticket, nobody), 0.0)
        if isinstance(commands[0], le.AskLedger):
            ((_, about),) = commands[0].questions
            facts = [self.ledger.get((partition, n), Fact.UNKNOWN) for n in about.tolist()]
            commands = self.leader.step(le.FactsRead(self.ticket, (facts,)), 0.0)
        (answer,) = commands
        assert isinstance(answer, le.Answer)
        self.asked |= {(partition, n) for n in range(start, stop)}
        facts = [self.ledger.get((partition, n), Fact.UNKNOWN) for n in range(start, stop)]
        expected = [
            self.twin.vote(slot, (partition, n), f) for n, f in zip(range(start, stop), facts, strict=True)
        ]
        return answer.answer.votes[0].tolist(), expected

    def drop(self, slot: str, partition: Partition) -> None:
        self.leader.step(le.DropAsked(Dropped(life(slot), (partition,))), 0.0)
        self.twin.drop(slot, {partition})

    def fence(self, slot: str) -> None:
        self.leader.step(le.LivesOver((life(slot),)), 0.0)
        self.twin.drop(slot, set(PARTITIONS))
        self.leader.step(le.Greeted(0, Hello(life(slot), "c", ())), 0.0)

    def knows_all(self) -> bool:
        votes = self.leader.desks["g"].filter
        return all(votes.test(digests(p, OffsetRange(n, n + 1))).all() for p, n in self.asked)


def life(slot: str) -> Life:
    return Life(group_id="g", slot=slot, incarnation=1)


def digests(partition: Partition, offsets: OffsetRange) -> np.ndarray:
    return range_digests("c", partition, offsets)


slots, partitions = st.sampled_from(SLOTS), st.sampled_from(PARTITIONS)
ranges = st.tuples(st.integers(0, 60), st.integers(1, 25)).map(lambda r: (r[0], r[0] + r[1]))
events = st.one_of(
    st.tuples(st.just("vote"), slots, partitions, ranges),
    st.tuples(st.just("fact"), st.sampled_from(list(Fact)), partitions, ranges),
    st.tuples(st.just("drop"), slots, partitions),
    st.tuples(st.just("fence"), slots),
)


def play(pair: Pair, event: tuple) -> tuple[list[int], list[int]]:
    match event:
        case ("vote", slot, partition, (start, stop)):
            return pair.vote(slot, partition, start, stop)
        case ("fact", fact, partition, (start, stop)):
            pair.ledger.update({(partition, n): fact for n in range(start, stop)})
        case ("drop", slot, partition):
            pair.drop(slot, partition)
        case ("fence", slot):
            pair.fence(slot)
    return [], []


@settings(max_examples=150, deadline=None)
@given(st.lists(events, max_size=40))
def test_s6_the_leader_votes_as_its_naive_twin(story: list[tuple]) -> None:
    pair = Pair(EXACT)
    for event in story:
        votes, expected = play(pair, event)
        assert votes == expected, event
    assert pair.knows_all()


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=40))
def test_s6_false_positives_change_no_vote_to_fresh_and_forget_nothing(story: list[tuple]) -> None:
    pair = Pair(CROWDED)
    pair.leader.desks["g"].filter.add(digests(Partition("other", 0, "other"), OffsetRange(0, 900)))
    for event in story:
        votes, expected = play(pair, event)
        for vote, twin in zip(votes, expected, strict=True):
            assert vote == twin or twin is Vote.FRESH, (
                event
            )  # a false positive hears the ledger's fact earlier
    assert pair.knows_all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), ranges), max_size=25), st.data())
def test_the_filter_forgets_nothing_that_rotation_must_keep(story: list[tuple], data: st.DataObject) -> None:
    votes, since_last, before_last = VoteFilter(EXACT), set[int](), set[int]()
    kept: set[int] = set()
    for rotate, (start, stop) in story:
        votes.add(digests(PARTITIONS[0], OffsetRange(start, stop)))
        since_last |= set(range(start, stop))
        if rotate:
            kept = data.draw(st.sets(st.integers(0, 85), max_size=5))
            votes.begin_rotation()
            votes.add(offset_digests("c", PARTITIONS[0], np.array(sorted(kept), dtype=np.int64)))
            votes.end_rotation()
            before_last, since_last = since_last, set(kept)
        must_know = sorted(since_last | before_last | kept)
        assert votes.test(offset_digests("c", PARTITIONS[0], np.array(must_know, dtype=np.int64))).all()
    assert VoteFilter.from_bytes(EXACT, votes.to_bytes()).count == votes.count


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("reserve"), slots, st.lists(st.integers(0, 40), max_size=12, unique=True)),
            st.tuples(st.just("free"), slots),
            st.tuples(st.just("passed"), st.integers(0, 40)),
        ),
        max_size=30,
    )
)
def test_reservations_are_a_dictionary_of_offsets(story: list[tuple]) -> None:
    held, twin, (partition, _) = Reservations(), dict[int, str](), PARTITIONS
    everything = np.arange(0, 42)
    for event in story:
        match event:
            case ("reserve", slot, wanted):
                chosen = np.isin(everything, wanted)
                held.reserve(slot, partition, everything, chosen)
                twin |= {n: twin.get(n, slot) for n in wanted}
            case ("free", slot):
                held.free(slot)
                twin = {n: s for n, s in twin.items() if s != slot}
            case ("passed", frontier):
                held.passed({partition: frontier})
                twin = {n: s for n, s in twin.items() if n >= frontier}
        for slot in SLOTS:
            expected = [n in twin and twin[n] != slot for n in everything.tolist()]
            assert held.holds_for_others(slot, partition, everything).tolist() == expected
        assert sum(len(r) for _, r in held.ranges()) == len(twin)
        assert held.slots() == set(twin.values())
