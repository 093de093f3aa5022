"""What a user's function gets with `effect="ledger"`, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class MemoryCursor:
    """Stands for the user's cursor: remembers what was executed."""

    executed: list[tuple[Any, Any]]

    def execute(self, query: Any, params: Any = None) -> MemoryCursor:
        self.executed.append((query, params))
        return self

    def executemany(self, query: Any, params_seq: Iterable[Any]) -> None:
        self.executed += [(query, params) for params in params_seq]
