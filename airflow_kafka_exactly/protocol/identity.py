"""Canonical digests of record ids: what votes and filters are asked with instead of the ids themselves.

A digest is 128 bits, two lanes of 64. The part of an id that is the same for a whole partition (cluster id, topic id,
partition number, replay) is hashed once with BLAKE2b; the offset is then mixed into each lane by a finaliser of its own in the
manner of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). Each finaliser is a bijection
of the 64-bit words, so two offsets of one partition never share even one lane; two records of different partitions meet with the
probability of any good 128-bit hash. No per-record call of Python is made: a digest costs a few nanoseconds.

The digests are not secret and need not resist an attacker: a wrong digest costs a wrong vote, and any vote is safe (S5).
Members, leaders and standbys of different versions must agree on them: this file may not change without a new protocol
version.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.votes import Digests, Offsets

_Words = npt.NDArray[np.uint64]
_Rounds = tuple[int, int, int, int, int]

_LANES: tuple[_Rounds, _Rounds] = (
    (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 30, 27, 31),
    (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 33, 33, 33),
)
"""Odd multipliers and shifts, one row for each lane: splitmix64's own and MurmurHash3's, both public and well studied."""

_STEPS = (0x9E3779B97F4A7C15, 0xD1342543DE82EF95)
"""Odd: consecutive offsets are spread over the 64-bit circle before they are mixed."""

CHUNK_RECORDS = 65_536
"""Whole ranges are digested in pieces of so many records (1 MiB of digests), however long they are."""


def offset_digests(cluster_id: str, partition: Partition, offsets: Offsets, replay: int = 0) -> Digests:
    """Digests of the records at `offsets` (shape (n,), any order): uint64 of shape (n, 2)."""
    words = np.ascontiguousarray(offsets, dtype=np.int64).view(np.uint64)
    base = _partition_words(cluster_id, partition, replay)
    digests = np.empty((len(words), 2), dtype=np.uint64)
    for lane, (start, step, rounds) in enumerate(zip(base, _STEPS, _LANES, strict=True)):
        digests[:, lane] = _finalised(words * np.uint64(step) + np.uint64(start), rounds)
    return digests


def range_digests(cluster_id: str, partition: Partition, offsets: OffsetRange, replay: int = 0) -> Digests:
    """Digests of every offset of a range, gaps included, in offset order. For long ranges see `range_chunks`."""
    return offset_digests(
        cluster_id, partition, np.arange(offsets.start, offsets.stop, dtype=np.int64), replay
    )


def range_chunks(
    cluster_id: str, partition: Partition, offsets: OffsetRange, chunk_records: int = CHUNK_RECORDS
) -> Iterator[Digests]:
    """The same in pieces, so that loading a ledger never needs memory for all of its ids at once."""
    for start in range(offsets.start, offsets.stop, chunk_records):
        stop = min(start + chunk_records, offsets.stop)
        yield range_digests(cluster_id, partition, OffsetRange(start, stop))


def _partition_words(cluster_id: str, partition: Partition, replay: int) -> tuple[int, int]:
    """What all records of a partition share. Each field is preceded by its length, so that no two different tuples of fields
    are the same bytes. The topic's *name* is left out on purpose: the topic id says which topic it is."""
    fields = (cluster_id, partition.topic_id, str(partition.number), str(replay))
    encoded = (field.encode() for field in fields)
    text = b"".join(len(field).to_bytes(4, "little") + field for field in encoded)
    digest = blake2b(text, digest_size=16, person=b"kx-record-id-1").digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _finalised(words: _Words, rounds: _Rounds) -> _Words:
    """A bijection of 64-bit words, in place: each step (xor with an own shift, an odd product) can be undone."""
    first, second, *shifts = rounds
    words ^= words >> np.uint64(shifts[0])
    words *= np.uint64(first)
    words ^= words >> np.uint64(shifts[1])
    words *= np.uint64(second)
    words ^= words >> np.uint64(shifts[2])
    return words
