"""The channel between members, leader and standbys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_kafka_exactly.protocol.claims import (
    Life,
)
from airflow_kafka_exactly.protocol.votes import (
    Ballot,
    BallotAnswer,
    Digests,
    Dropped,
    Hello,
    Notice,
)


class LeaderLink(Protocol):
    """A member's stream to the leader. Every call raises `NotLeading` when the peer does not lead, and `Unavailable` when
    the stream broke or the deadline passed: the votes that were asked for are then unknown."""

    @property
    def alive(self) -> bool: ...
    def hello(self, hello: Hello) -> int:
        """Returns the leader's epoch."""
        ...

    def vote(self, ballot: Ballot) -> BallotAnswer: ...
    def drop(self, dropped: Dropped) -> None: ...
    def notices(self) -> Sequence[Notice]:
        """What has come since the last call; never waits."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Addition:
    """Ids that the leader adds to a group's filter, for its standbys."""

    group_id: str
    sequence: int
    digests: Digests


@dataclass(frozen=True, slots=True)
class FilterSnapshot:
    """A whole filter as bytes (pybloom_live's file format), with the last addition it holds."""

    group_id: str
    sequence: int
    data: bytes


class LeaderHandler(Protocol):
    """What a channel server calls. Raises `NotLeading` while this contender does not lead."""

    def hello(self, hello: Hello) -> int: ...
    def vote(self, ballot: Ballot) -> BallotAnswer: ...
    def drop(self, dropped: Dropped) -> None: ...
    def member_gone(self, life: Life) -> None:
        """Its stream broke: early news, never a proof."""
        ...

    def follow(self, standby: str) -> Sequence[FilterSnapshot]:
        """A standby starts to follow: the snapshots it begins with. From now on it is sent every addition."""
        ...

    def standby_gone(self, standby: str) -> None: ...
    def snapshots(self) -> Sequence[FilterSnapshot]:
        """What this contender's filters hold, for a new leader that collects; answered whether it leads or not."""
        ...


class ChannelServer(Protocol):
    def start(self, handler: LeaderHandler) -> str:
        """Returns the address to advertise."""
        ...

    def notify(self, notice: Notice) -> None:
        """To every member of the notice's group that is connected."""
        ...

    def replicate(self, addition: Addition) -> Mapping[str, Sequence[bool]]:
        """Send to every in-sync standby and wait for acknowledgements: for each one, which of the digests it knew. A
        standby that does not answer in time leaves the set, its stream is closed and it must follow anew."""
        ...

    def dismiss(self) -> None:
        """End every member's and standby's stream, because this contender stood down: they look for the leader again."""
        ...

    def stop(self) -> None: ...


class StandbyHandler(Protocol):
    def load(self, snapshots: Sequence[FilterSnapshot]) -> None: ...
    def add(self, addition: Addition) -> Sequence[bool]: ...


def never() -> bool:
    return False


class Channel(Protocol):
    """The client's side."""

    def link(self, address: str, life: Life, given_up: Callable[[], bool] = never) -> LeaderLink:
        """`given_up` is asked every half second while this, or a question over the link, waits for an answer: True ends the
        waiting with `Unavailable`. A frozen leader would be waited for longer than its successor takes to be elected."""
        ...

    def follow(self, address: str, standby: str, handler: StandbyHandler, stop: Callable[[], bool]) -> None:
        """Follow a leader until the stream breaks (returns) or `stop()` says so. `NotLeading` when it does not lead,
        `Unavailable` when the stream breaks before the snapshots are loaded."""
        ...

    def collect(self, address: str) -> Sequence[FilterSnapshot]:
        """A standby's filters, asked by a new leader that takes office. Any contender answers."""
        ...
