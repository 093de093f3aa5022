"""ZooKeeper: who leads, and who is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Election(Protocol):
    """One contender for leadership."""

    def contend(self, address: str, on_change: Callable[[], None]) -> None:
        """Enter the election with the address that members will be given; `on_change` may be called from any thread."""
        ...

    def leads(self) -> bool:
        """Whether this contender leads *and* may trust that: its last successful write of its own node was *sent* less than the
        trust window ago, and the session is not suspended. Writes when half of the window is used up."""
        ...

    def resign(self) -> None:
        """Leave the election and its session; the next contender leads at once."""
        ...


class Directory(Protocol):
    """Where everybody finds the leader, and who is alive."""

    def leader_address(self) -> str | None: ...
    def contenders(self) -> Sequence[str]:
        """Addresses, the leader's first."""
        ...

    def enter(self, name: str) -> None:
        """An ephemeral node for this process's member, for people and `status`."""
        ...

    def leave(self, name: str) -> None: ...
    def members(self) -> Sequence[str]: ...
    def close(self) -> None: ...
