"""Trust window, write-ahead window, segments and summary: small enough to be tested whole."""

import itertools
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from airflow_kafka_exactly.protocol.record import OffsetRange, Partition, PartitionBatch, RawRecord
from airflow_kafka_exactly.protocol.segments import claim_part, count_votes
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.protocol.trust import TrustWindow
from airflow_kafka_exactly.protocol.votes import Vote
from airflow_kafka_exactly.protocol.window import MAX_WINDOW_RECORDS, WindowSize

P = Partition("t", 0, "topic")


def test_s1_the_trust_window_counts_from_the_asking() -> None:
    window = TrustWindow(trust_s=12.0)
    assert not window.open(0.0)
    window.renewed(asked_at=100.0)
    assert window.open(111.9)
    assert not window.open(112.0)


def test_an_answer_that_comes_late_does_not_shorten_the_window() -> None:
    window = TrustWindow(trust_s=12.0)
    window.renewed(asked_at=100.0)
    window.renewed(asked_at=90.0)
    assert window.open(111.0)


def test_s4_a_fenced_life_is_never_trusted_again() -> None:
    window = TrustWindow(trust_s=12.0)
    window.renewed(asked_at=100.0)
    window.close()
    window.renewed(asked_at=101.0)
    assert not window.open(101.0)


def test_the_window_holds_what_runs_in_its_time() -> None:
    size = WindowSize(window_s=0.2)
    for _ in range(10):
        size.measured(size.records, size.records * 0.001)
    assert size.records == 200


def test_the_window_grows_slowly_shrinks_at_once_and_is_bounded() -> None:
    size = WindowSize(window_s=0.2)
    size.measured(1, 0.0)
    assert size.records == 4
    for _ in range(20):
        size.measured(size.records, 0.0)
    assert size.records == MAX_WINDOW_RECORDS
    size.measured(size.records, 3600.0)
    assert size.records == 1


offset_steps = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(list(Vote))), max_size=30)


@given(offset_steps, st.integers(0, 5))
def test_s2_segments_cover_the_range_without_a_hole(steps: list[tuple[int, Vote]], tail: int) -> None:
    offsets, at = [], 7
    for step, _ in steps:
        at += step
        offsets.append(at)
    batch = PartitionBatch(
        P, OffsetRange(5, at + 1 + tail), tuple(RawRecord(o, None, None, (), 0) for o in offsets)
    )
    segments = claim_part(batch, np.array([vote for _, vote in steps], dtype=np.uint8)).segments
    assert [segments[0].range.start, segments[-1].range.stop] == [batch.range.start, batch.range.stop]
    assert all(a.range.stop == b.range.start for a, b in itertools.pairwise(segments))
    for offset, (_, vote) in zip(offsets, steps, strict=True):
        (segment,) = [s for s in segments if offset in s.range]
        assert segment.doubtful == (vote is Vote.DOUBTFUL)


def test_votes_are_counted() -> None:
    votes = [np.array([0, 0, 2], dtype=np.uint8), np.array([1], dtype=np.uint8)]
    assert count_votes(votes) == {Vote.FRESH: 2, Vote.SETTLED: 1, Vote.DOUBTFUL: 1}


def test_case_15_the_summary_is_small_versioned_and_survives_json() -> None:
    summary = Summary()
    for start in range(0, 100_000, 100):
        summary.took(P, OffsetRange(start, start + 100))
        summary.count("applied", 100)
    handed_over = Summary.from_dict(json.loads(json.dumps(summary.as_dict())))
    handed_over.took(P, OffsetRange(100_000, 100_001))
    result = handed_over.as_dict()
    assert result["version"] == 1
    assert result["counts"]["applied"] == 100_000
    assert result["ranges"] == [{"topic": "topic", "partition": 0, "start": 0, "stop": 100_001}]
    assert len(json.dumps(result)) < 1000


def test_a_summary_of_another_version_starts_anew() -> None:
    assert Summary.from_dict({"version": 99}).as_dict() == Summary().as_dict()
