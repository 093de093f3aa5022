"""Values of the protocol to and from messages. What does not fit together raises `ValueError`: the peer is refused.

Arrays that were read are views of the message's bytes, so they are read-only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from airflow_kafka_exactly.adapters.channel import kafka_exactly_pb2 as pb
from airflow_kafka_exactly.ports import Addition, FilterSnapshot
from airflow_kafka_exactly.protocol.claims import Life
from airflow_kafka_exactly.protocol.record import OffsetRange, Partition
from airflow_kafka_exactly.protocol.votes import (
    Ballot,
    BallotAnswer,
    BallotPart,
    Digests,
    Dropped,
    Hello,
    Notice,
    NoticeKind,
    Offsets,
    Vote,
    Votes,
)

PIECE_BYTES = 1024 * 1024
SNAPSHOT_MAX_BYTES = 4 * 1024**3
"""More than a filter of 10^9 ids; a peer that announces more is not one of ours."""

_DIGEST_BYTES, _OFFSET_BYTES = 16, 8


def digest_bytes(digests: Digests) -> bytes:
    return np.ascontiguousarray(digests, dtype="<u8").tobytes()


def read_digests(data: bytes) -> Digests:
    if len(data) % _DIGEST_BYTES:
        raise ValueError(f"{len(data)} bytes are no digests")
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


def read_offsets(data: bytes) -> Offsets:
    if len(data) % _OFFSET_BYTES:
        raise ValueError(f"{len(data)} bytes are no offsets")
    return np.frombuffer(data, dtype="<i8")


# -- who and where -----------------------------------------------------------------------------------------------------


def write_life(life: Life) -> pb.Life:
    return pb.Life(group_id=life.group_id, slot=life.slot, incarnation=life.incarnation)


def read_life(message: pb.Life) -> Life:
    return Life(group_id=message.group_id, slot=message.slot, incarnation=message.incarnation)


def write_partition(partition: Partition) -> pb.Partition:
    return pb.Partition(topic_id=partition.topic_id, number=partition.number, topic=partition.topic)


def read_partition(message: pb.Partition) -> Partition:
    return Partition(message.topic_id, message.number, message.topic)


# -- votes -------------------------------------------------------------------------------------------------------------


def write_part(part: BallotPart) -> pb.BallotPart:
    return pb.BallotPart(
        partition=write_partition(part.partition),
        start=part.range.start,
        stop=part.range.stop,
        offsets=np.ascontiguousarray(part.offsets, dtype="<i8").tobytes(),
        digests=digest_bytes(part.digests),
    )


def read_part(message: pb.BallotPart) -> BallotPart:
    offsets, digests = read_offsets(message.offsets), read_digests(message.digests)
    if len(offsets) != len(digests):
        raise ValueError(f"{len(offsets)} offsets with {len(digests)} digests")
    return BallotPart(
        read_partition(message.partition), OffsetRange(message.start, message.stop), offsets, digests
    )


def write_ballot(ballot: Ballot) -> pb.Ballot:
    return pb.Ballot(life=write_life(ballot.life), parts=[write_part(p) for p in ballot.parts])


def read_ballot(message: pb.Ballot) -> Ballot:
    return Ballot(read_life(message.life), tuple(read_part(p) for p in message.parts))


def write_answer(answer: BallotAnswer) -> pb.BallotAnswer:
    return pb.BallotAnswer(
        epoch=answer.epoch, votes=[np.ascontiguousarray(v, dtype=np.uint8).tobytes() for v in answer.votes]
    )


def read_answer(message: pb.BallotAnswer, ballot: Ballot) -> BallotAnswer:
    """The answer to `ballot`: one vote for each of its records."""
    if [len(v) for v in message.votes] != [len(p.offsets) for p in ballot.parts]:
        raise ValueError("votes and records differ in number")
    return BallotAnswer(message.epoch, tuple(_read_votes(v) for v in message.votes))


def _read_votes(data: bytes) -> Votes:
    votes = np.frombuffer(data, dtype=np.uint8)
    if votes.size and votes.max() > max(Vote):
        raise ValueError(f"unknown vote {votes.max()}")
    return votes


def write_hello(hello: Hello) -> pb.Hello:
    return pb.Hello(
        life=write_life(hello.life),
        cluster_id=hello.cluster_id,
        in_hand=[write_part(p) for p in hello.in_hand],
    )


def read_hello(message: pb.Hello) -> Hello:
    return Hello(read_life(message.life), message.cluster_id, tuple(read_part(p) for p in message.in_hand))


def write_dropped(dropped: Dropped) -> pb.Dropped:
    return pb.Dropped(
        life=write_life(dropped.life), partitions=[write_partition(p) for p in dropped.partitions]
    )


def read_dropped(message: pb.Dropped) -> Dropped:
    return Dropped(read_life(message.life), tuple(read_partition(p) for p in message.partitions))


def write_notice(notice: Notice) -> pb.Notice:
    return pb.Notice(
        group_id=notice.group_id,
        kind=notice.kind.value,
        partitions=[write_partition(p) for p in notice.partitions],
    )


def read_notice(message: pb.Notice) -> Notice:
    partitions = tuple(read_partition(p) for p in message.partitions)
    return Notice(message.group_id, NoticeKind(message.kind), partitions)


# -- filters -----------------------------------------------------------------------------------------------------------


def write_addition(addition: Addition) -> pb.Addition:
    return pb.Addition(
        group_id=addition.group_id, sequence=addition.sequence, digests=digest_bytes(addition.digests)
    )


def read_addition(message: pb.Addition) -> Addition:
    return Addition(message.group_id, message.sequence, read_digests(message.digests))


def write_known(known: Sequence[bool]) -> bytes:
    return np.packbits(np.asarray(known, dtype=np.bool_)).tobytes()


def read_known(data: bytes, count: int) -> Sequence[bool]:
    """One answer for each of the addition's `count` digests."""
    if len(data) != (count + 7) // 8:
        raise ValueError(f"{len(data)} bytes acknowledge {count} digests")
    known: list[bool] = (
        np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count).astype(np.bool_).tolist()
    )
    return known


def write_pieces(snapshots: Iterable[FilterSnapshot]) -> Iterator[pb.SnapshotPiece]:
    for snapshot in snapshots:
        view = memoryview(snapshot.data)
        for start in range(0, max(len(view), 1), PIECE_BYTES):
            yield pb.SnapshotPiece(
                group_id=snapshot.group_id,
                sequence=snapshot.sequence,
                total=len(view),
                data=bytes(view[start : start + PIECE_BYTES]),
            )


class SnapshotReader:
    """Puts pieces together again."""

    def __init__(self) -> None:
        self._done: list[FilterSnapshot] = []
        self._of: tuple[str, int, int] | None = None
        self._data = bytearray()

    def add(self, piece: pb.SnapshotPiece) -> None:
        of = (piece.group_id, piece.sequence, piece.total)
        if self._of not in (None, of) or piece.total > SNAPSHOT_MAX_BYTES:
            raise ValueError(f"a piece of {of} where {self._of} was unfinished")
        self._of = of
        self._data += piece.data
        if len(self._data) > piece.total:
            raise ValueError(f"more bytes than the announced {piece.total}")
        if len(self._data) == piece.total:
            self._done.append(FilterSnapshot(piece.group_id, piece.sequence, bytes(self._data)))
            self._of, self._data = None, bytearray()

    def snapshots(self) -> Sequence[FilterSnapshot]:
        if self._of is not None:
            raise ValueError(f"the end came within {self._of}")
        return tuple(self._done)
