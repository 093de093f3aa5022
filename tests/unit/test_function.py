"""What a function's exception and a check's answer mean (F1: an exception is not proof)."""

import sys
from typing import Any

import pytest

from airflow_kafka_exactly.errors import NotApplied
from airflow_kafka_exactly.protocol.record import FencingToken, Record
from airflow_kafka_exactly.runtime.function import Attempt, Tried, UserFunction

RECORD = Record("topic", 0, 7, None, b"value", (), 0, "id", FencingToken(1, 1))


def failing(_: Any) -> None:
    raise TimeoutError("the answer was lost")


async def asynchronous(_: Any) -> bool:
    return False


@pytest.mark.parametrize(
    ("check", "attempt"),
    [
        (lambda _: True, Attempt.APPLIED),
        (lambda _: False, Attempt.NOT_APPLIED),
        (lambda _: None, Attempt.UNKNOWN),
        (lambda _: "yes", Attempt.UNKNOWN),
        (lambda _: 1, Attempt.UNKNOWN),
        (failing, Attempt.UNKNOWN),
        (lambda _: sys.exit(), Attempt.UNKNOWN),
        (None, Attempt.UNKNOWN),
    ],
)
def test_s7_only_a_plain_yes_or_no_of_the_check_decides(check: Any, attempt: Attempt) -> None:
    assert UserFunction(apply=failing, check=check).ask([RECORD]) is attempt


def test_f1_an_exception_proves_nothing() -> None:
    tried = UserFunction(apply=failing, check=lambda _: False).external([RECORD])
    assert (tried.attempt, tried.reason) == (Attempt.UNKNOWN, "TimeoutError: the answer was lost")


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_s7_a_check_that_nobody_awaits_is_no_proof() -> None:
    assert UserFunction(apply=failing, check=asynchronous).ask([RECORD]) is Attempt.UNKNOWN


def test_a_user_may_vouch_for_an_exception_in_general_or_for_this_one() -> None:
    def not_applied(_: Any) -> None:
        raise NotApplied("refused at the door")

    assert UserFunction(apply=failing, vouches=True).external([RECORD]).attempt is Attempt.NOT_APPLIED
    assert UserFunction(apply=not_applied).external([RECORD]).attempt is Attempt.NOT_APPLIED


def test_function_and_check_of_a_unit_get_the_list() -> None:
    given: list[Any] = []

    def function(records: Any) -> None:
        given.append(records)
        raise ValueError

    unit = UserFunction(apply=function, unit=True, check=lambda records: given.append(records) is None)
    unit.external([RECORD])
    unit.ask([RECORD])
    assert given == [[RECORD], [RECORD]]


def test_an_exception_that_cannot_say_what_it_is_is_an_exception_like_any_other() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def apply(_record: object) -> None:
        raise Silent("x\x00")

    tried = UserFunction(apply=apply).external([RECORD])
    assert tried == Tried(Attempt.UNKNOWN, r"Silent: Silent('x\x00')")
