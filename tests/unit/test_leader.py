"""The pure leader: the order of taking office (S6), votes, reservations, rotation, fences and notices."""

from collections.abc import Sequence

import numpy as np
import pytest

from airflow_kafka_exactly.errors import NotLeading
from airflow_kafka_exactly.protocol import leader_events as le
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.filter import VoteFilter
from airflow_kafka_exactly.protocol.identity import range_digests
from airflow_kafka_exactly.protocol.leader import RELEASED_AGAIN_S, Leader, Office
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.votes import (
    Ballot,
    BallotPart,
    Dropped,
    Fact,
    Hello,
    Notice,
    NoticeKind,
    Vote,
)
from airflow_kafka_exactly.settings import FilterSettings, LeaseSettings

P0, P1 = Partition("id", 0, "t"), Partition("id", 1, "t")
SETTINGS = FilterSettings(capacity=20_000, error_rate=0.0001)
FRESH, SETTLED, DOUBTFUL = Vote.FRESH, Vote.SETTLED, Vote.DOUBTFUL


def life(slot: str = "a", incarnation: int = 1, group: str = "g") -> Life:
    return Life(group_id=group, slot=slot, incarnation=incarnation)


def part(start: int, stop: int, partition: Partition = P0) -> BallotPart:
    offsets = OffsetRange(start, stop)
    return BallotPart(partition, offsets, np.arange(start, stop), range_digests("c", partition, offsets))


def elected(settings: FilterSettings = SETTINGS) -> Leader:
    leader = Leader(settings, LeaseSettings())
    assert leader.step(le.Elected(), 0.0) == (le.RaiseEpoch(),)
    return leader


def opened(
    ranges: Sequence[tuple[Partition, OffsetRange]] = (), settings: FilterSettings = SETTINGS, epoch: int = 7
) -> Leader:
    leader = elected(settings)
    assert leader.step(le.EpochRaised(epoch), 0.0) == (le.CollectFilters(), le.LoadLedger(epoch))
    leader.step(le.Loaded(epoch, "g", "c", ranges), 0.0)
    assert leader.step(le.LoadedAll(epoch, ("g",)), 0.0) == (le.OpenOffice(epoch),)
    return leader


class Desk:
    """Plays the driver for one leader: replicates to `standbys_know`, and reads facts from `ledger` (UNKNOWN by default)."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.ledger: dict[tuple[Partition, int], Fact] = {}
        self.standbys_know: set[tuple[int, int]] = set()
        self.asked_about: list[int] = []
        self.done: list[str] = []
        self._ticket = 0

    def hello(self, who: Life, *in_hand: BallotPart) -> int:
        self._ticket += 1
        (welcome,) = self._through(self.leader.step(le.Greeted(self._ticket, Hello(who, "c", in_hand)), 0.0))
        assert isinstance(welcome, le.Welcome)
        return welcome.epoch

    def vote(self, who: Life, *parts: BallotPart) -> list[int]:
        self._ticket += 1
        (answer,) = self._through(self.leader.step(le.Asked(self._ticket, Ballot(who, parts)), 0.0))
        assert isinstance(answer, le.Answer)
        assert answer.answer.epoch == self.leader.epoch
        return [vote for votes in answer.answer.votes for vote in votes.tolist()]

    def _through(self, commands: Sequence[le.Command]) -> Sequence[le.Command]:
        while True:
            assert len(commands) == 1
            self.done.append(type(commands[0]).__name__)
            match commands[0]:
                case le.Replicate(ticket=ticket, digests=digests):
                    known = np.array(
                        [(int(a), int(b)) in self.standbys_know for a, b in digests], dtype=np.bool_
                    )
                    commands = self.leader.step(le.Replicated(ticket, known), 0.0)
                case le.AskLedger(ticket=ticket, questions=questions):
                    facts = tuple([self._fact(p, o) for o in offsets.tolist()] for p, offsets in questions)
                    commands = self.leader.step(le.FactsRead(ticket, facts), 0.0)
                case le.LoadLedger(epoch=epoch, groups=(group,)):
                    self.leader.step(le.Loaded(epoch, group, "c", ()), 0.0)
                    return ()
                case _:
                    return commands

    def _fact(self, partition: Partition, offset: int) -> Fact:
        self.asked_about.append(offset)
        return self.ledger.get((partition, offset), Fact.UNKNOWN)


@pytest.fixture
def desk() -> Desk:
    made = Desk(opened())
    for slot in ("a", "b"):
        made.hello(life(slot))
    made.done.clear()
    return made


# -- taking office -----------------------------------------------------------------------------------------------------


def test_s6_the_epoch_is_raised_before_anything_is_loaded() -> None:
    leader = elected()
    with pytest.raises(AssertionError, match="S6: the ledger was loaded before the epoch was raised"):
        leader.step(le.Loaded(7, "g", "c", ()), 0.0)


def test_s6_what_was_loaded_in_an_older_epoch_does_not_count() -> None:
    leader = elected()
    leader.step(le.EpochRaised(7), 0.0)
    with pytest.raises(AssertionError, match="S6: the ledger was loaded in an older epoch"):
        leader.step(le.Loaded(6, "g", "c", ()), 0.0)


def test_s6_no_office_before_every_group_is_loaded() -> None:
    leader = elected()
    leader.step(le.EpochRaised(7), 0.0)
    leader.step(le.Loaded(7, "g", "c", ()), 0.0)
    with pytest.raises(AssertionError, match=r"S6: opened without the ledger's ids of \['h'\]"):
        leader.step(le.LoadedAll(7, ("g", "h")), 0.0)


@pytest.mark.parametrize("office", [Office.OUT, Office.RAISING, Office.LOADING])
def test_s6_no_vote_before_the_office_is_open(office: Office) -> None:
    leader = Leader(SETTINGS, LeaseSettings())
    for event in (le.Elected(), le.EpochRaised(7)):
        if leader.office is office:
            break
        leader.step(event, 0.0)
    assert leader.office is office
    with pytest.raises(NotLeading):
        leader.step(le.Asked(1, Ballot(life(), (part(0, 1),))), 0.0)


def test_s4_epochs_grow() -> None:
    leader = opened(epoch=7)
    leader.step(le.Deposed(), 1.0)
    leader.step(le.Elected(), 2.0)
    with pytest.raises(AssertionError, match="S4"):
        leader.step(le.EpochRaised(7), 2.0)


def test_s6_the_filter_of_a_new_leader_holds_all_of_1_000_000_ids() -> None:
    ranges = [(Partition("id", n, "t"), OffsetRange(5 * n, 100_000 + 5 * n)) for n in range(10)]
    leader = opened(ranges, FilterSettings())
    votes = leader.desks["g"].filter
    for partition, offsets in ranges:
        assert votes.test(range_digests("c", partition, offsets)).all()
    assert votes.expected_false_positive_rate() <= FilterSettings().error_rate


def test_the_ledgers_ids_are_never_voted_fresh_without_asking(desk: Desk) -> None:
    loaded = Desk(opened([(P0, OffsetRange(0, 100))]))
    loaded.hello(life("a"))
    loaded.ledger = {(P0, n): Fact.CLAIMED for n in range(50)} | {
        (P0, n): Fact.DOUBTED for n in range(50, 100)
    }
    assert loaded.vote(life("a"), part(0, 100)) == [DOUBTFUL] * 100
    assert loaded.asked_about == list(range(100))


def test_what_a_standby_knew_is_asked_about_after_a_change_of_leaders() -> None:
    kept = VoteFilter(SETTINGS)
    kept.add(range_digests("c", P0, OffsetRange(0, 10)))
    leader = elected()
    leader.step(le.EpochRaised(7), 0.0)
    leader.step(le.Collected("g", kept), 0.0)
    leader.step(le.Loaded(7, "g", "c", ()), 0.0)
    leader.step(le.LoadedAll(7, ("g",)), 0.0)
    desk = Desk(leader)
    desk.hello(life())
    desk.ledger = {(P0, 3): Fact.SETTLED}
    assert desk.vote(life(), part(0, 20)) == [FRESH] * 3 + [SETTLED] + [FRESH] * 16
    assert desk.asked_about == list(range(10))


def test_hellos_are_heard_while_loading_and_votes_of_strangers_are_not(desk: Desk) -> None:
    leader = elected()
    leader.step(le.EpochRaised(7), 0.0)
    early = Desk(leader)
    assert early.hello(life("a"), part(0, 10)) == 7
    leader.step(le.Loaded(7, "g", "c", ()), 0.0)
    leader.step(le.LoadedAll(7, ("g",)), 0.0)
    early.hello(life("b"))
    assert early.vote(life("b"), part(0, 10)) == [DOUBTFUL] * 10
    assert early.vote(life("a"), part(0, 10)) == [FRESH] * 10
    with pytest.raises(NotLeading, match="hello"):
        early.vote(life("stranger"), part(0, 10))


def test_a_group_that_is_new_to_the_ledger_is_loaded_before_its_first_vote(desk: Desk) -> None:
    (load,) = desk.leader.step(le.Greeted(99, Hello(life(group="new"), "c", ())), 0.0)
    assert load == le.LoadLedger(7, ("new",))
    desk.leader.step(le.Loaded(7, "new", "c", ()), 0.0)
    desk.hello(life(group="new"))
    assert desk.vote(life(group="new"), part(0, 3)) == [FRESH] * 3


# -- votes -------------------------------------------------------------------------------------------------------------


def test_an_id_never_heard_of_is_fresh_and_the_ledger_is_not_asked(desk: Desk) -> None:
    assert desk.vote(life("a"), part(0, 1000), part(0, 500, P1)) == [FRESH] * 1500
    assert desk.asked_about == []


def test_nothing_is_answered_before_it_is_replicated(desk: Desk) -> None:
    desk.vote(life("a"), part(0, 10))
    assert desk.done == ["Replicate", "Answer"]
    desk.done.clear()
    desk.vote(life("a"), part(5, 15))
    assert desk.done == ["Replicate", "AskLedger", "Answer"]


def test_only_what_is_new_is_replicated_and_additions_are_numbered(desk: Desk) -> None:
    (first,) = desk.leader.step(le.Asked(50, Ballot(life("a"), (part(0, 10), part(0, 5, P1)))), 0.0)
    (second,) = desk.leader.step(le.Asked(51, Ballot(life("a"), (part(5, 12),))), 0.0)
    assert isinstance(first, le.Replicate)
    assert isinstance(second, le.Replicate)
    assert np.array_equal(first.digests, np.concatenate((part(0, 10).digests, part(0, 5, P1).digests)))
    assert np.array_equal(second.digests, part(10, 12).digests)
    assert (first.sequence, second.sequence) == (1, 2)


def test_what_only_a_standby_knew_is_asked_about(desk: Desk) -> None:
    desk.standbys_know = {(int(a), int(b)) for a, b in part(3, 5).digests}
    desk.ledger = {(P0, 3): Fact.SETTLED, (P0, 4): Fact.CLAIMED}
    assert desk.vote(life("a"), part(0, 6)) == [FRESH, FRESH, FRESH, SETTLED, DOUBTFUL, FRESH]
    assert desk.asked_about == [3, 4]


def test_facts_become_votes(desk: Desk) -> None:
    desk.vote(life("a"), part(0, 4))
    desk.ledger = {(P0, 0): Fact.SETTLED, (P0, 1): Fact.CLAIMED, (P0, 2): Fact.DOUBTED}
    assert desk.vote(life("a"), part(0, 4)) == [SETTLED, DOUBTFUL, DOUBTFUL, FRESH]


def test_s6_another_slot_is_told_doubtful_until_the_first_drops(desk: Desk) -> None:
    assert desk.vote(life("a"), part(0, 10)) == [FRESH] * 10
    assert desk.vote(life("b"), part(0, 12)) == [DOUBTFUL] * 10 + [FRESH] * 2
    assert desk.vote(life("a", 2), part(0, 12)) == [FRESH] * 10 + [DOUBTFUL] * 2
    desk.leader.step(le.DropAsked(Dropped(life("a"), (P0,))), 0.0)
    assert desk.vote(life("b"), part(0, 12)) == [FRESH] * 12


def test_s6_a_second_slot_that_asks_before_the_first_is_answered_is_told_doubtful(desk: Desk) -> None:
    desk.leader.step(le.Asked(50, Ballot(life("a"), (part(0, 5),))), 0.0)
    assert desk.vote(life("b"), part(0, 5)) == [DOUBTFUL] * 5


def test_s6_a_lost_answer_leaves_the_ids_known_and_reserved(desk: Desk) -> None:
    desk.leader.step(le.Asked(50, Ballot(life("a"), (part(0, 5),))), 0.0)
    desk.leader.step(le.Abandoned(50), 0.0)
    assert desk.vote(life("b"), part(0, 5)) == [DOUBTFUL] * 5
    assert desk.vote(life("a"), part(0, 5)) == [FRESH] * 5


def test_s6_a_fence_frees_what_the_slots_newest_life_held(desk: Desk) -> None:
    desk.vote(life("a"), part(0, 5))
    desk.hello(life("a", 2))
    desk.leader.step(le.LivesOver((life("a", 1),)), 0.0)  # its next life keeps what it was told
    assert desk.vote(life("b"), part(0, 5)) == [DOUBTFUL] * 5
    desk.leader.step(le.LivesOver((life("a", 2),)), 0.0)
    assert desk.vote(life("b"), part(0, 5)) == [FRESH] * 5


def test_in_hand_records_are_reserved_for_the_slot_that_names_them(desk: Desk) -> None:
    desk.hello(life("a"), part(0, 5))
    assert desk.vote(life("b"), part(0, 7)) == [DOUBTFUL] * 5 + [FRESH] * 2
    assert desk.vote(life("a"), part(0, 5)) == [FRESH] * 5


def test_case_46_a_deposed_leader_answers_not_leading_also_to_votes_on_their_way(desk: Desk) -> None:
    desk.leader.step(le.Asked(50, Ballot(life("a"), (part(0, 5),))), 0.0)
    desk.leader.step(le.Deposed(), 0.0)
    with pytest.raises(NotLeading):
        desk.leader.step(le.Replicated(50, np.zeros(5, dtype=np.bool_)), 0.0)
    with pytest.raises(NotLeading):
        desk.vote(life("a"), part(0, 5))
    with pytest.raises(NotLeading):
        desk.hello(life("a"))


def test_false_positives_are_counted_and_voted_fresh() -> None:
    crowded = Desk(opened(settings=FilterSettings(capacity=1000, error_rate=0.1)))
    crowded.hello(life("a"))
    for start in range(0, 700, 100):
        assert crowded.vote(life("a"), part(start, start + 100)) == [FRESH] * 100
    counts = crowded.leader.desks["g"].counts
    assert counts.positives == counts.unfounded == len(crowded.asked_about) > 0
    assert (counts.asked, counts.fresh) == (700, 700)


# -- the ledger's news -------------------------------------------------------------------------------------------------


def test_s6_a_rotation_keeps_what_the_ledger_holds_and_what_is_reserved() -> None:
    desk = Desk(opened(settings=FilterSettings(capacity=1000, error_rate=0.001)))
    leader = desk.leader
    desk.hello(life("a"))
    desk.hello(life("b"))
    desk.vote(life("b"), part(0, 100, P1))  # reserved, never claimed
    for start in range(0, 3000, 100):
        desk.vote(life("a"), part(start, start + 100))
        leader.step(le.Progressed("g", {P0: start}), 0.0)
        for command in leader.step(le.Ticked(), 0.0):
            assert command == le.LoadLedger(7, ("g",))
            leader.step(le.Loaded(7, "g", "c", [(P0, OffsetRange(start, start + 100))]), 0.0)
    votes = leader.desks["g"].filter
    assert votes.generations == 2
    assert votes.test(part(2900, 3000).digests).all()
    assert votes.test(part(0, 100, P1).digests).all()
    assert votes.test(part(0, 1000).digests).mean() < 0.2  # settled long ago: the claim's arbiter knows
    assert desk.vote(life("a"), part(0, 100, P1)) == [DOUBTFUL] * 100


def test_s6_what_is_claimed_after_the_ledger_was_read_and_then_dropped_outlives_the_rotation() -> None:
    desk = Desk(opened(settings=FilterSettings(capacity=1000, error_rate=0.001)))
    leader = desk.leader
    desk.hello(life("a"))
    desk.vote(life("a"), part(0, 100))
    leader.desks["g"].filter.begin_rotation()  # two rotations ago: these ids are in the oldest generation
    desk.hello(life("b"))
    desk.vote(life("b"), part(0, 800, P1))
    assert leader.step(le.Ticked(), 0.0) == (le.LoadLedger(7, ("g",)),)
    leader.step(le.DropAsked(Dropped(life("a"), (P0,))), 0.0)
    leader.step(le.Loaded(7, "g", "c", ()), 0.0)
    assert leader.desks["g"].filter.test(part(0, 100).digests).all()


@pytest.mark.parametrize("loaded", [0, 700])
@pytest.mark.parametrize("rotations", [1, 2])
def test_s6_a_ballot_that_is_on_its_way_longer_than_a_rotation_is_still_reserved_and_known(
    rotations: int, loaded: int
) -> None:
    """With what the ledger has, the rotation may start more than one generation."""
    desk = Desk(opened(settings=FilterSettings(capacity=1000, error_rate=0.001)))
    leader, ballot = desk.leader, Ballot(life("b"), (part(0, 200),))
    for slot in ("a", "b", "c"):
        desk.hello(life(slot))
    desk.vote(life("a"), part(0, 200))
    leader.step(le.DropAsked(Dropped(life("a"), (P0,))), 0.0)
    asked = leader.step(le.Asked(77, ballot), 0.0)
    while isinstance(asked[0], le.Replicate):
        asked = leader.step(le.Replicated(77, np.zeros(len(asked[0].digests), dtype=np.bool_)), 0.0)
    at = 0
    for _ in range(rotations):
        while not leader.step(le.Ticked(), 0.0):
            desk.vote(life("a"), part(at, at := at + 400, P1))
            leader.step(le.Progressed("g", {P1: at}), 0.0)
        leader.step(le.Loaded(7, "g", "c", [(P1, OffsetRange(5000, 5000 + loaded))]), 0.0)
    (answer,) = leader.step(le.FactsRead(77, ([Fact.UNKNOWN] * 200,)), 0.0)
    assert isinstance(answer, le.Answer)
    assert set(answer.answer.votes[0].tolist()) == {FRESH}
    assert desk.vote(life("c"), part(0, 200)) == [DOUBTFUL] * 200


def test_a_rotation_whose_ledger_does_not_answer_is_asked_for_again() -> None:
    leader = opened([(P0, OffsetRange(0, 700))], FilterSettings(capacity=1000))
    leader.desks["g"].filter.add(part(700, 800).digests)
    first = leader.step(le.Ticked(), 0.0)
    assert first == leader.step(le.Ticked(), 1.0) == (le.LoadLedger(7, ("g",)),)
    leader.step(le.Loaded(7, "g", "c", ()), 2.0)
    assert leader.step(le.Ticked(), 2.0) == ()


def test_overdue_lives_are_fenced_only_after_unbroken_contact_with_the_ledger() -> None:
    leader = opened()
    overdue = le.OverdueRead((life("a"),))
    grace = int(LeaseSettings().fence_grace_s)
    for now in range(grace):
        assert leader.step(overdue, float(now)) == ()
    assert leader.step(overdue, float(grace)) == (le.FenceLife(7, life("a")),)
    leader.step(le.LedgerLost(), grace + 1.0)
    assert leader.step(overdue, grace + 2.0) == ()


def test_members_hear_of_released_doubts_again_and_again() -> None:
    leader = opened()
    told = (le.Notify(Notice("g", NoticeKind.RELEASED_DOUBTS)),)
    assert leader.step(le.Released("g", 0), 0.0) == ()
    assert leader.step(le.Released("g", 3), 0.0) == told
    assert leader.step(le.Released("g", 3), RELEASED_AGAIN_S / 2) == ()
    assert leader.step(le.Released("g", 3), RELEASED_AGAIN_S) == told


def test_s6_ids_of_reopened_orphans_enter_the_filter() -> None:
    leader = opened()
    leader.step(le.Reopened("g", [(P0, OffsetRange(0, 50))]), 0.0)
    assert leader.desks["g"].filter.test(part(0, 50).digests).all()


def test_late_news_for_a_leader_that_stood_down_is_ignored() -> None:
    leader = opened()
    leader.step(le.Deposed(), 1.0)
    for event in (le.Ticked(), le.OverdueRead((life(),)), le.Released("g", 1), le.LedgerLost()):
        assert leader.step(event, 100.0) == ()
