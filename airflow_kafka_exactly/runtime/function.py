"""The user's function and check, and what an exception of theirs means (section 4.6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from airflow_kafka_exactly.errors import NotApplied, UnknownFunction
from airflow_kafka_exactly.protocol.evidence import Answer
from airflow_kafka_exactly.protocol.record import Record
from airflow_kafka_exactly.protocol.storable import told
from airflow_kafka_exactly.runtime.calling import answer_of, discard, promised, result_of, untouched

log = logging.getLogger(__name__)

FAILURES = (Exception, SystemExit, asyncio.CancelledError)
"""What a function or a check may fail with. `sys.exit()` and a cancelled task inside of it are its own doing: Airflow ends a task
by a signal that calls `on_kill`, and by its time-out's exception, which is none of these."""


class RanNothing(UnknownFunction):
    """What came back from the function promises work instead of having done it. `proven`: nothing of it has run."""

    def __init__(self, what: str, proven: bool) -> None:
        super().__init__(
            f"the function returned {what}: its effect would never happen, or after the record counts as applied. Give a "
            "plain function that has finished its effect when it returns."
        )
        self.proven = proven


class Attempt(Enum):
    APPLIED = auto()
    NOT_APPLIED = auto()  # proven, or vouched for
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Tried:
    attempt: Attempt
    reason: str = ""


APPLIED = Tried(Attempt.APPLIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFunction:
    """`apply` gets one record, or with `unit` the list of a batch's records. With `in_ledger` it also gets `cursor=`, inside
    the ledger's transaction. `check` gets what `apply` got and answers True (it happened), False or None (cannot tell)."""

    apply: Callable[..., Any]
    unit: bool = False
    in_ledger: bool = False
    check: Callable[..., bool | None] | None = None
    vouches: bool = False
    """`on_exception="not_applied"`: the user vouches that a function that raised had no effect."""

    def external(self, records: Sequence[Record]) -> Tried:
        """Run the function once; what is known afterwards. An exception is not proof that nothing happened."""
        try:
            returned = result_of(self.apply(self._given(records)))
        except NotApplied as said:
            return Tried(Attempt.NOT_APPLIED, told(said))
        except FAILURES as raised:
            reason = told(raised)
            log.warning("the function raised for %s: %s", records[0].record_id, reason, exc_info=True)
            return Tried(Attempt.NOT_APPLIED if self.vouches else Attempt.UNKNOWN, reason)
        self._look_at(returned)
        return APPLIED

    def with_cursor(self, records: Sequence[Record], cursor: Any) -> None:
        """Run the function inside the ledger's transaction, which an exception rolls back."""
        self._look_at(result_of(self.apply(self._given(records), cursor=cursor)))

    def ask(self, records: Sequence[Record]) -> Attempt:
        """Ask the user's check at once."""
        if self.check is None:
            return Attempt.UNKNOWN
        try:
            answer = answer_of(self.check(self._given(records)))
        except FAILURES:
            log.warning("the check raised for %s", records[0].record_id, exc_info=True)
            return Attempt.UNKNOWN
        return {Answer.YES: Attempt.APPLIED, Answer.NO: Attempt.NOT_APPLIED}.get(answer, Attempt.UNKNOWN)

    def _given(self, records: Sequence[Record]) -> Record | list[Record]:
        return list(records) if self.unit else records[0]

    def _look_at(self, returned: object) -> None:
        what = promised(returned)
        if what:
            proven = untouched(self.apply, returned)
            discard(returned)
            raise RanNothing(what, proven)
