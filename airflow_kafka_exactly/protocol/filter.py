"""The leader's memory of ids: a Bloom filter that is asked and filled in bulk.

`pybloom_live.BloomFilter` gives size, bits, union, copy and file format. Only its hashing is replaced: it would hash one id after
the other in Python (70 ms for 10,000 ids). Here a digest *is* the hash: bit `i` of an id lies in slice `i` at `a + i * b`, `a`
and `b` being the two lanes of its digest (double hashing: Kirsch and Mitzenmacher, "Less hashing, same performance", 2006), and
numpy reads and writes the bits in the bitarray's own memory.

**Rotation.** A filter that is filled past its capacity lies more and more often, so ids live in *generations*. Additions go to
the youngest; all are asked. When the youngest is nearly full:

1. `begin_rotation` starts a new youngest at once, so what is asked from now on survives; the caller adds what is reserved;
2. the caller reads from the ledger what S6 wants kept (unfolded claims, unclosed doubts, orphans) and adds it;
3. `end_rotation` forgets every generation that is older than the rotation before this one. Those that a load, a slow ledger or
   many additions started since then stay: so each id that was asked about since the eve of the last rotation is known.

If the ledger does not answer between 1 and 3 nothing is forgotten; generations are added instead, which costs false positives
(see `expected_false_positive_rate`), never a forgotten id. Each generation has half of the stated error rate, because as a rule
two are asked.

Not thread-safe: its owner's lock protects it.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from pybloom_live import BloomFilter

from airflow_kafka_exactly.protocol.votes import Digests
from airflow_kafka_exactly.settings import FilterSettings

Known = npt.NDArray[np.bool_]
"""Shape (n,): which ids are in the filter (perhaps wrongly) ..."""

ROTATE_AT = 0.75
"""Of the capacity: the rest is room for what is asked while the ledger is read."""
_MAGIC = b"KXF1"
_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
_CHUNK = 16_384
"""Ids worked on at once: their places stay in the processor's cache."""
_SNAPSHOT_MAX_GENERATIONS = 64
_LOW = np.uint64(32)


class VoteFilter:
    def __init__(self, settings: FilterSettings) -> None:
        self._settings = settings
        self._generations = [_Generation.empty(settings.capacity, settings.error_rate / 2)]
        """The youngest first."""
        self._before_last: list[_Generation] = []
        """What was there before the last rotation began: the next one forgets it."""
        self._outlived: list[_Generation] = []
        """What the end of the rotation that has begun forgets."""

    def add(self, digests: Digests) -> Known:
        """Add ids; tells which were known before. Ids of older generations are added to the youngest again, so that everything
        asked since the last rotation outlives the next one (S6)."""
        self.make_room(len(digests))
        youngest, *older = self._generations
        young = youngest.add(digests)
        known = young.copy()
        for generation in older:
            known |= generation.test(digests)
        return known

    def test(self, digests: Digests) -> Known:
        """Which ids are in the filter, or seem to be. Adds nothing."""
        known = np.zeros(len(digests), dtype=np.bool_)
        for generation in self._generations:
            known |= generation.test(digests)
        return known

    def make_room(self, ids: int) -> None:
        """Start a generation that holds `ids` more at the stated error rate, unless the youngest does. Nothing is forgotten."""
        youngest = self._generations[0]
        if youngest.count + ids > youngest.capacity:
            self._start_generation(ids)

    def load(self, ids: Callable[[], Iterable[Digests]]) -> None:
        """Add very many ids, which are named twice, in pieces. A new leader that followed the last one has most of them in its
        youngest generation: those cost a look each, and no room. Nothing is forgotten."""
        youngest = self._generations[0]
        missing = sum(int(np.count_nonzero(~youngest.test(digests))) for digests in ids())
        if missing == 0:
            return
        if youngest.count + missing >= ROTATE_AT * youngest.capacity:
            # Else it would be nearly full, rotated, and loaded again, for ever.
            self._start_generation(missing)
            if youngest.count == 0:
                del self._generations[1]
        for digests in ids():
            self._generations[0].add(digests[~youngest.test(digests)])

    def begin_rotation(self) -> None:
        self._outlived, self._before_last = self._before_last, self._generations[:]
        self._start_generation(0)

    def end_rotation(self) -> None:
        """Only after everything that S6 wants kept was added since `begin_rotation`."""
        self._generations = [g for g in self._generations if g not in self._outlived]
        self._outlived = []

    def absorb(self, other: VoteFilter) -> None:
        """The union with another leader's or a standby's filter. Generations of the same size are merged where the result
        is not over its capacity; the others are kept beside them until the next rotation."""
        for age, theirs in enumerate(other._generations):
            if not self._merged(age, theirs):
                self._generations.append(theirs.copy())

    @property
    def nearly_full(self) -> bool:
        """Time for a rotation."""
        youngest = self._generations[0]
        return youngest.count >= ROTATE_AT * youngest.capacity

    @property
    def generations(self) -> int:
        return len(self._generations)

    @property
    def count(self) -> int:
        """About how many ids it holds (an id in two generations counts twice)."""
        return sum(generation.count for generation in self._generations)

    def expected_false_positive_rate(self) -> float:
        """The chance that an id never added seems known, by the bits that are really set."""
        passes = 1.0
        for generation in self._generations:
            passes *= 1.0 - generation.false_positive_rate()
        return 1.0 - passes

    def to_bytes(self) -> bytes:
        """The generations in pybloom_live's file format, each after its length; the youngest first."""
        out = [_MAGIC, _COUNT.pack(len(self._generations))]
        for generation in self._generations:
            data = generation.to_bytes()
            out += [_LENGTH.pack(len(data)), data]
        return b"".join(out)

    @classmethod
    def from_bytes(cls, settings: FilterSettings, data: bytes) -> VoteFilter:
        """`ValueError` when this is no snapshot of a filter, or not a whole one."""
        restored = cls(settings)
        try:
            restored._generations = _read_generations(data)
        except (struct.error, EOFError, OverflowError) as damage:
            raise ValueError(f"not a filter snapshot: {damage}") from damage
        return restored

    def _start_generation(self, ids: int) -> None:
        """A generation is larger than the settings say when more must go in at once (a large ledger is loaded)."""
        doublings = max(0, math.ceil(math.log2(max(1.0, (ids + 1) / ROTATE_AT / self._settings.capacity))))
        capacity = self._settings.capacity << doublings
        self._generations.insert(0, _Generation.empty(capacity, self._settings.error_rate / 2))

    def _merged(self, age: int, theirs: _Generation) -> bool:
        if age >= len(self._generations):
            return False
        union = self._generations[age].union(theirs)
        if union is None:
            return False
        self._generations[age] = union
        return True


class _Generation:
    """One `BloomFilter` with bulk operations on its bits."""

    def __init__(self, bloom: BloomFilter) -> None:
        self._bloom = bloom
        self._slices: int = bloom.num_slices
        self._slice_bits: int = bloom.bits_per_slice
        assert bloom.bitarray.endian == "little", "bit i of byte j is id bit 8 * j + i"
        assert self._slice_bits < 1 << 32, "places are computed from the upper 32 bits of a word"
        self._bits: npt.NDArray[np.uint8] = np.frombuffer(bloom.bitarray, dtype=np.uint8)

    @classmethod
    def empty(cls, capacity: int, error_rate: float) -> _Generation:
        return cls(BloomFilter(capacity=capacity, error_rate=error_rate))

    @property
    def capacity(self) -> int:
        return int(self._bloom.capacity)

    @property
    def count(self) -> int:
        return int(self._bloom.count)

    def add(self, digests: Digests) -> Known:
        """Tells which were known before."""
        known = np.empty(len(digests), dtype=np.bool_)
        for start in range(0, len(digests), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            known[chunk] = self._test_and_set(digests[chunk])
        self._bloom.count += len(digests) - int(np.count_nonzero(known))
        return known

    def test(self, digests: Digests) -> Known:
        known = np.zeros(len(digests), dtype=np.bool_)
        for start in range(0, len(digests), _CHUNK):
            asked = digests[start : start + _CHUNK]
            left = np.arange(start, start + len(asked))
            for number in range(self._slices):
                byte, bit = self._places(asked, number)
                found = (self._bits[byte] & bit) != 0
                if not found.all():  # an unknown id is asked about in about two slices, not in all
                    asked, left = asked[found], left[found]
            known[left] = True
        return known

    def _test_and_set(self, digests: Digests) -> Known:
        known = np.ones(len(digests), dtype=np.bool_)
        for number in range(self._slices):
            byte, bit = self._places(digests, number)
            known &= (self._bits[byte] & bit) != 0
            np.bitwise_or.at(self._bits, byte, bit)  # plain `|=` would lose bits that share a byte
        return known

    def _places(self, digests: Digests, number: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Byte and bit of each id in slice `number`: the upper half of the word, scaled to the slice's length."""
        words = digests[:, 1] * np.uint64(number)
        words += digests[:, 0]
        words >>= _LOW
        words *= np.uint64(self._slice_bits)
        words >>= _LOW
        words += np.uint64(number * self._slice_bits)
        bit = np.left_shift(np.uint8(1), (words & np.uint64(7)).astype(np.uint8), dtype=np.uint8)
        return (words >> np.uint64(3)).view(np.int64), bit

    def union(self, other: _Generation) -> _Generation | None:
        """None when the sizes differ, or the union would be over capacity."""
        mine, theirs = self._bloom, other._bloom
        if (mine.capacity, mine.error_rate) != (theirs.capacity, theirs.error_rate):
            return None
        union = _Generation(mine.union(theirs))
        union._bloom.count = union._estimated_count()  # pybloom_live's union forgets the counts
        return union if union.count <= union.capacity else None

    def copy(self) -> _Generation:
        copied = self._bloom.copy()
        copied.count = self._bloom.count  # pybloom_live's copy forgets it
        return _Generation(copied)

    def false_positive_rate(self) -> float:
        rate = 1.0
        for number in range(self._slices):
            start = number * self._slice_bits
            rate *= self._bloom.bitarray.count(1, start, start + self._slice_bits) / self._slice_bits
        return rate

    def _estimated_count(self) -> int:
        """How many ids set so many bits, rounded up (Swamidass and Baldi, 2007)."""
        unset = 1.0 - self._bloom.bitarray.count(1) / self._bloom.num_bits
        if unset <= 0.0:
            return self.capacity + 1
        return math.ceil(-self._slice_bits * math.log(unset))

    def to_bytes(self) -> bytes:
        out = io.BytesIO()
        self._bloom.tofile(out)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> _Generation:
        bloom = BloomFilter.fromfile(io.BytesIO(data), len(data))
        del bloom.bitarray[bloom.num_bits :]  # the file is padded to whole bytes; a union wants equal lengths
        if len(bloom.bitarray) != bloom.num_bits:
            raise ValueError(f"a filter of {bloom.num_bits} bits came with {len(bloom.bitarray)}")
        return cls(bloom)


def _read_generations(data: bytes) -> list[_Generation]:
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not a filter snapshot: unknown format")
    at = len(_MAGIC)
    (count,) = _COUNT.unpack_from(data, at)
    if not 1 <= count <= _SNAPSHOT_MAX_GENERATIONS:
        raise ValueError(f"not a filter snapshot: {count} generations")
    at += _COUNT.size
    generations = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise ValueError("not a whole filter snapshot")
        generations.append(_Generation.from_bytes(data[at : at + length]))
        at += length
    return generations
