"""Digests of record ids: canonical, without collisions, and the same for one record wherever it is computed."""

import numpy as np

from airflow_kafka_exactly.protocol.identity import offset_digests, range_chunks, range_digests
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition

P0 = Partition("topic-id-a", 0, "payments")


def _rows(digests: np.ndarray) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in digests}


def test_a_digest_does_not_depend_on_its_neighbours_or_their_order() -> None:
    offsets = np.array([7, 3, 2**62, 0], dtype=np.int64)
    together = offset_digests("c", P0, offsets)
    for row, offset in zip(together, offsets, strict=True):
        assert (row == offset_digests("c", P0, np.array([offset], dtype=np.int64))[0]).all()


def test_digests_are_frozen_across_versions() -> None:
    """Members and leaders of different versions must agree (see the module's docstring)."""
    digests = offset_digests("cluster", P0, np.array([0, 41], dtype=np.int64))
    assert [[f"{int(word):016x}" for word in row] for row in digests] == FROZEN


def test_each_part_of_the_identity_matters_and_the_topic_name_does_not() -> None:
    offsets = np.arange(4, dtype=np.int64)
    same = offset_digests("c", Partition("topic-id-a", 0, "renamed"), offsets)
    assert (same == offset_digests("c", P0, offsets)).all()
    variants = [
        offset_digests("c", P0, offsets),
        offset_digests("d", P0, offsets),
        offset_digests("c", Partition("topic-id-b", 0, "payments"), offsets),
        offset_digests("c", Partition("topic-id-a", 1, "payments"), offsets),
        offset_digests("c", P0, offsets, replay=1),
        offset_digests("ctopic-id-a", Partition("", 0, "payments"), offsets),
    ]
    assert len(set().union(*(_rows(v) for v in variants))) == 4 * len(variants)


def test_no_lane_repeats_within_a_partition() -> None:
    digests = range_digests("c", P0, OffsetRange(0, 200_000))
    assert len(np.unique(digests[:, 0])) == 200_000
    assert len(np.unique(digests[:, 1])) == 200_000


def test_bits_are_evenly_set() -> None:
    digests = range_digests("c", P0, OffsetRange(0, 50_000))
    bits = np.unpackbits(np.ascontiguousarray(digests).view(np.uint8), axis=1)
    assert abs(bits.mean(axis=0) - 0.5).max() < 0.015


def test_chunks_are_the_whole_range() -> None:
    whole = range_digests("c", P0, OffsetRange(5, 25))
    chunks = list(range_chunks("c", P0, OffsetRange(5, 25), chunk_records=8))
    assert [len(c) for c in chunks] == [8, 8, 4]
    assert (np.concatenate(chunks) == whole).all()


def test_an_empty_range_has_no_digests() -> None:
    assert range_digests("c", P0, OffsetRange(5, 5)).shape == (0, 2)


FROZEN = [["229ffcce05c33435", "fcc5d882ad086a84"], ["890e90530f9915d2", "7630a41e990ee022"]]
