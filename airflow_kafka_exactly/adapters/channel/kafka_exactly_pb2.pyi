from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Life(_message.Message):
    __slots__ = ("group_id", "slot", "incarnation")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    slot: str
    incarnation: int
    def __init__(self, group_id: _Optional[str] = ..., slot: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class Partition(_message.Message):
    __slots__ = ("topic_id", "number", "topic")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic_id: str
    number: int
    topic: str
    def __init__(self, topic_id: _Optional[str] = ..., number: _Optional[int] = ..., topic: _Optional[str] = ...) -> None: ...

class BallotPart(_message.Message):
    __slots__ = ("partition", "start", "stop", "offsets", "digests")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    partition: Partition
    start: int
    stop: int
    offsets: bytes
    digests: bytes
    def __init__(self, partition: _Optional[_Union[Partition, _Mapping]] = ..., start: _Optional[int] = ..., stop: _Optional[int] = ..., offsets: _Optional[bytes] = ..., digests: _Optional[bytes] = ...) -> None: ...

class Ballot(_message.Message):
    __slots__ = ("life", "parts")
    LIFE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    life: Life
    parts: _containers.RepeatedCompositeFieldContainer[BallotPart]
    def __init__(self, life: _Optional[_Union[Life, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[BallotPart, _Mapping]]] = ...) -> None: ...

class BallotAnswer(_message.Message):
    __slots__ = ("epoch", "votes")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    votes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, epoch: _Optional[int] = ..., votes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("life", "cluster_id", "in_hand")
    LIFE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    IN_HAND_FIELD_NUMBER: _ClassVar[int]
    life: Life
    cluster_id: str
    in_hand: _containers.RepeatedCompositeFieldContainer[BallotPart]
    def __init__(self, life: _Optional[_Union[Life, _Mapping]] = ..., cluster_id: _Optional[str] = ..., in_hand: _Optional[_Iterable[_Union[BallotPart, _Mapping]]] = ...) -> None: ...

class Epoch(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class Dropped(_message.Message):
    __slots__ = ("life", "partitions")
    LIFE_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    life: Life
    partitions: _containers.RepeatedCompositeFieldContainer[Partition]
    def __init__(self, life: _Optional[_Union[Life, _Mapping]] = ..., partitions: _Optional[_Iterable[_Union[Partition, _Mapping]]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("group_id", "kind", "partitions")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    kind: str
    partitions: _containers.RepeatedCompositeFieldContainer[Partition]
    def __init__(self, group_id: _Optional[str] = ..., kind: _Optional[str] = ..., partitions: _Optional[_Iterable[_Union[Partition, _Mapping]]] = ...) -> None: ...

class Told(_message.Message):
    __slots__ = ("registered", "notice")
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    registered: Done
    notice: Notice
    def __init__(self, registered: _Optional[_Union[Done, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ...) -> None: ...

class SnapshotPiece(_message.Message):
    __slots__ = ("group_id", "sequence", "total", "data")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    sequence: int
    total: int
    data: bytes
    def __init__(self, group_id: _Optional[str] = ..., sequence: _Optional[int] = ..., total: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Addition(_message.Message):
    __slots__ = ("group_id", "sequence", "digests")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    sequence: int
    digests: bytes
    def __init__(self, group_id: _Optional[str] = ..., sequence: _Optional[int] = ..., digests: _Optional[bytes] = ...) -> None: ...

class Fed(_message.Message):
    __slots__ = ("piece", "loaded", "addition")
    PIECE_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    ADDITION_FIELD_NUMBER: _ClassVar[int]
    piece: SnapshotPiece
    loaded: Done
    addition: Addition
    def __init__(self, piece: _Optional[_Union[SnapshotPiece, _Mapping]] = ..., loaded: _Optional[_Union[Done, _Mapping]] = ..., addition: _Optional[_Union[Addition, _Mapping]] = ...) -> None: ...

class Heard(_message.Message):
    __slots__ = ("standby", "loaded", "known")
    STANDBY_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    standby: str
    loaded: Done
    known: bytes
    def __init__(self, standby: _Optional[str] = ..., loaded: _Optional[_Union[Done, _Mapping]] = ..., known: _Optional[bytes] = ...) -> None: ...
