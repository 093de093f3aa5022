"""The vote filter: complete, of stated error, rotated without forgetting, and bulk work in bulk."""

import random
import sys
from collections.abc import Callable

import numpy as np
import pytest

from airflow_kafka_exactly.protocol.filter import VoteFilter
from airflow_kafka_exactly.protocol.identity import range_digests
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.votes import Digests
from airflow_kafka_exactly.settings import FilterSettings

SMALL = FilterSettings(capacity=1000, error_rate=0.01)


def ids(start: int, stop: int, topic: str = "t") -> Digests:
    return range_digests("cluster", Partition(topic, 0, topic), OffsetRange(start, stop))


def test_s6_what_was_added_is_known() -> None:
    votes = VoteFilter(SMALL)
    assert not votes.add(ids(0, 500))[:1].any()
    assert votes.test(ids(0, 500)).all()
    assert votes.add(ids(0, 500)).all()


def test_add_tells_only_what_was_known_before() -> None:
    votes = VoteFilter(FilterSettings(capacity=100_000, error_rate=0.0001))
    votes.add(ids(0, 100))
    known = votes.add(ids(50, 150))
    assert known[:50].all()
    assert known[50:].sum() <= 1


def test_the_stated_error_rate_holds_when_full() -> None:
    settings = FilterSettings(capacity=50_000, error_rate=0.001)
    votes = VoteFilter(settings)
    votes.add(ids(0, 50_000))
    measured = votes.test(ids(0, 1_000_000, "never added")).mean()
    assert measured <= settings.error_rate
    assert votes.expected_false_positive_rate() == pytest.approx(measured, rel=0.5)


def test_two_full_generations_keep_the_stated_error_rate() -> None:
    settings = FilterSettings(capacity=50_000, error_rate=0.001)
    votes = VoteFilter(settings)
    votes.add(ids(0, 50_000))
    votes.begin_rotation()
    votes.add(ids(50_000, 100_000))
    votes.end_rotation()
    assert votes.test(ids(0, 100_000)).all()
    assert votes.test(ids(0, 1_000_000, "never added")).mean() <= 1.2 * settings.error_rate


def test_nothing_is_forgotten_between_the_ends_of_a_rotation() -> None:
    votes = VoteFilter(SMALL)
    for n in range(6):  # the ledger does not answer, so no rotation ends
        votes.add(ids(1000 * n, 1000 * (n + 1)))
        votes.begin_rotation()
    assert votes.test(ids(0, 6000)).all()
    assert votes.generations > 6


def test_a_rotation_forgets_only_what_is_older_than_the_last_one() -> None:
    votes = VoteFilter(SMALL)
    votes.add(ids(0, 900))
    votes.begin_rotation()
    votes.end_rotation()
    votes.add(ids(900, 1800))
    assert votes.test(ids(0, 1800)).all()
    votes.begin_rotation()
    votes.add(ids(0, 10))  # what the ledger still holds
    votes.end_rotation()
    assert votes.generations == 2
    assert votes.test(ids(0, 10)).all()
    assert votes.test(ids(900, 1800)).all()
    assert votes.test(ids(10, 900)).mean() < 0.1


@pytest.mark.parametrize("seed", range(50))
def test_s6_what_was_asked_since_the_eve_of_the_last_rotation_is_known_whatever_is_loaded_meanwhile(
    seed: int,
) -> None:
    """Loads and a slow ledger start further generations between the two ends of a rotation."""
    chance, votes, at = random.Random(seed), VoteFilter(SMALL), 0
    first: list[Digests] = []
    for _ in range(4):
        since: list[Digests] = []
        at = asked_some(chance, votes, at, since)
        votes.begin_rotation()
        today: list[Digests] = []
        at = asked_some(chance, votes, at, today)
        votes.end_rotation()
        assert all(votes.test(digests).all() for digests in (*since, *today))
        first = first or since
    assert np.concatenate([votes.test(digests) for digests in first]).mean() < 0.5, "old ids are forgotten"


def asked_some(chance: random.Random, votes: VoteFilter, at: int, asked: list[Digests]) -> int:
    """Up to four loads or additions of ids never heard of; returns the first number that is free then."""
    for _ in range(chance.randint(1, 4)):
        digests = ids(at, at := at + chance.choice((1, 50, 400, 800)))
        if chance.random() < 0.5:
            votes.load(lambda d=digests: [d])
        else:
            votes.add(digests)
        asked.append(digests)
    return at


def test_ids_of_an_older_generation_that_are_asked_again_outlive_the_next_rotation() -> None:
    votes = VoteFilter(SMALL)
    votes.add(ids(0, 100))
    votes.begin_rotation()
    votes.end_rotation()
    assert votes.add(ids(0, 100)).all()
    votes.begin_rotation()
    votes.end_rotation()
    assert votes.test(ids(0, 100)).all()


def test_it_is_never_filled_past_its_capacity() -> None:
    votes = VoteFilter(SMALL)
    votes.add(ids(0, 5000))
    votes.add(ids(5000, 5100))
    assert votes.test(ids(0, 5100)).all()
    assert votes.expected_false_positive_rate() < SMALL.error_rate * 2
    assert VoteFilter(SMALL).nearly_full is False


def test_nearly_full_comes_before_full() -> None:
    votes = VoteFilter(SMALL)
    votes.add(ids(0, 700))
    assert not votes.nearly_full
    votes.add(ids(700, 800))
    assert votes.nearly_full
    assert votes.generations == 1


def test_ids_that_are_loaded_leave_room_or_every_rotation_would_begin_the_next() -> None:
    votes = VoteFilter(SMALL)
    for count in (749, 750, 900, 1000, 1500):  # SMALL holds 1000
        votes.begin_rotation()
        votes.load(lambda n=count: [ids(0, n // 2), ids(n // 2, n)])
        votes.end_rotation()
        assert votes.test(ids(0, count)).all()
        assert not votes.nearly_full


def test_ids_that_are_loaded_again_need_no_room() -> None:
    votes = VoteFilter(SMALL)
    votes.load(lambda: [ids(0, 1000)])
    generations, count = votes.generations, votes.count
    votes.load(lambda: [ids(0, 500), ids(500, 1000)])
    assert (votes.generations, votes.count) == (generations, count)
    votes.load(lambda: [ids(0, 1300)])
    assert votes.test(ids(0, 1300)).all()
    assert votes.generations == generations


def test_snapshots_hold_everything() -> None:
    votes = VoteFilter(SMALL)
    votes.add(ids(0, 900))
    votes.begin_rotation()
    votes.add(ids(900, 1000))
    restored = VoteFilter.from_bytes(SMALL, votes.to_bytes())
    assert restored.test(ids(0, 1000)).all()
    assert restored.generations == votes.generations
    assert restored.count == votes.count
    assert restored.to_bytes() == votes.to_bytes()
    restored.add(ids(2000, 2100))
    assert restored.test(ids(2000, 2100)).all()
    assert votes.test(ids(2000, 2100)).mean() < 0.1


@pytest.mark.parametrize(
    "damage", [b"", b"KXF1", b"KXF1\0\0\0\0", b"something else", b"KXF1\1\0\0\0\xff\0\0\0\0\0\0\0abc"]
)
def test_what_is_no_snapshot_is_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match=r"filter|bits"):
        VoteFilter.from_bytes(SMALL, damage)


def test_a_truncated_snapshot_is_refused() -> None:
    data = VoteFilter(SMALL).to_bytes()
    for length in (len(data) - 1, len(data) // 2, 20, 13):
        with pytest.raises(ValueError, match=r"filter|bits"):
            VoteFilter.from_bytes(SMALL, data[:length])


def test_the_union_knows_what_either_knew() -> None:
    mine, theirs = VoteFilter(SMALL), VoteFilter(SMALL)
    mine.add(ids(0, 300))
    theirs.add(ids(200, 500))
    mine.absorb(theirs)
    assert mine.test(ids(0, 500)).all()
    assert mine.generations == 1
    assert 480 <= mine.count <= 520  # pybloom_live's union forgets the count; ours is estimated
    assert theirs.test(ids(0, 150)).mean() < 0.1


def test_a_union_of_unlike_or_full_filters_keeps_both() -> None:
    mine, full = VoteFilter(SMALL), VoteFilter(SMALL)
    mine.add(ids(0, 900))
    full.add(ids(900, 1800))
    mine.absorb(full)
    other = VoteFilter(FilterSettings(capacity=5000, error_rate=0.001))
    other.add(ids(1800, 2000))
    mine.absorb(other)
    assert mine.test(ids(0, 2000)).all()


def test_a_copy_absorbed_is_independent_of_its_origin() -> None:
    mine = VoteFilter(SMALL)
    mine.add(ids(0, 900))
    theirs = VoteFilter(FilterSettings(capacity=5000, error_rate=0.001))
    mine.absorb(theirs)
    theirs.add(ids(5000, 6000))
    assert mine.test(ids(5000, 6000)).mean() < 0.1


def calls_of(work: Callable[[], object]) -> int:
    """Of Python's functions and of numpy's. Operators of arrays are not seen, but no loop over ids is without calls that are."""
    counted = 0

    def count(_frame: object, event: str, _of: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


def test_case_20_adding_and_testing_10_000_ids_is_as_many_calls_as_10() -> None:
    """One by one in Python it was 70 ms and a disturbed event loop. Calls are counted, because a time is the machine's."""
    votes = VoteFilter(FilterSettings())

    def calls(batch: Digests) -> int:
        return calls_of(lambda: (votes.add(batch), votes.test(batch)))

    few, many = calls(ids(0, 10)), calls(ids(0, 10_000, "many"))
    assert many == few
    assert few < sum(calls(ids(n, n + 1, "one by one")) for n in range(10)), "a loop would be seen"
    assert votes.test(ids(0, 10_000, "many")).all()


def test_reading_only_arrays_are_enough() -> None:
    """The channel's arrays are views of a message's bytes."""
    digests = ids(0, 100)
    digests.flags.writeable = False
    votes = VoteFilter(SMALL)
    votes.add(digests)
    assert votes.test(digests).all()
    assert np.array_equal(digests, ids(0, 100))
