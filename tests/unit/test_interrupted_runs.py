"""A run that ends in the middle, by whatever exception: only the record in hand may have begun (S7), all others are known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from members import TOPIC, Members

from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.member import Member
from airflow_kafka_exactly.runtime.running import Runner

RECORDS, AT = 300, 157


class AirflowTaskTimeout(BaseException):
    """As Airflow's, which a signal raises anywhere."""


class TaskDeferred(BaseException):
    """As Airflow's."""


ENDS = [AirflowTaskTimeout, TaskDeferred, KeyboardInterrupt]
FAILURES = [SystemExit, asyncio.CancelledError]
"""These come from the function itself: no signal raises them."""


def run(world: Members, function: UserFunction, prepare: Callable[[Runner], None] = lambda _: None) -> None:
    """On this thread, as a task does."""
    with world.membership() as membership:
        member = Member(membership, function, world.until_end())
        prepare(member._runner)
        member.run()


def finish(world: Members, seen: list[int]) -> None:
    """The next task run does the rest."""
    run(world, UserFunction(apply=lambda record: seen.append(record.offset)))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("in_ledger", [False, True])
def test_s7_an_end_within_the_function_leaves_one_doubt(end: type[BaseException], in_ledger: bool) -> None:
    """With `effect="ledger"` none: what was rolled back has not happened."""
    seen: list[int] = []

    def function(record: Any, **_: Any) -> None:
        if record.offset == AT:
            raise end("execution_timeout")
        seen.append(record.offset)

    with Members(member={"max_batch_records": RECORDS}) as world:
        world.produce(RECORDS)
        with pytest.raises(end):
            run(world, UserFunction(apply=function, in_ledger=in_ledger))
        assert world.doubted() == ([] if in_ledger else [AT])
        assert world.frontier() == (AT if in_ledger else AT + 1)
        finish(world, seen)
        assert seen == [offset for offset in range(RECORDS) if in_ledger or offset != AT]
        assert world.doubted() == ([] if in_ledger else [AT])


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("in_ledger", [False, True])
def test_l1_what_a_function_exits_with_is_a_failure_of_its_record(
    failure: type[BaseException], in_ledger: bool
) -> None:
    """As the end of the run, `sys.exit()` in a function with `effect="ledger"` blocked its partition for ever."""
    seen: list[int] = []

    def function(record: Any, **_: Any) -> None:
        if record.offset == AT:
            raise failure("of its own")
        seen.append(record.offset)

    with Members(member={"max_batch_records": RECORDS, "retry_delay_s": 0.01}) as world:
        world.produce(RECORDS)
        run(world, UserFunction(apply=function, in_ledger=in_ledger))
        assert seen == [offset for offset in range(RECORDS) if offset != AT]
        assert world.doubted() == ([] if in_ledger else [AT])
        assert world.dead_letters() == (1 if in_ledger else 0)


@pytest.mark.parametrize("where", ["_settled", "_mark", "_guarded", "_deal_with"])
def test_an_end_between_two_records_leaves_no_doubt(where: str) -> None:
    seen: list[int] = []

    def prepare(runner: Runner) -> None:
        of = runner._trier if where == "_guarded" else runner
        really = getattr(of, where)

        def interrupted(*arguments: Any) -> Any:
            value = really(*arguments)
            if len(seen) > AT:
                raise AirflowTaskTimeout
            return value

        setattr(of, where, interrupted)

    with Members(member={"max_batch_records": RECORDS}) as world:
        world.produce(RECORDS)
        with pytest.raises(AirflowTaskTimeout):
            run(world, UserFunction(apply=lambda record: seen.append(record.offset)), prepare)
        begun = len(seen)
        # The function came back, but nobody has taken note: only then is the record in hand not known to be applied.
        assert world.doubted() == ([begun - 1] if where == "_guarded" else [])
        assert world.frontier() == begun
        finish(world, seen)
        assert seen == list(range(RECORDS))


def test_s7_an_end_within_a_batch_function_leaves_the_batch_as_one_doubt() -> None:
    seen: list[int] = []

    def function(records: Any) -> None:
        if records[0].offset:
            raise AirflowTaskTimeout
        seen.extend(record.offset for record in records)

    with Members(member={"max_batch_records": 100}) as world:
        world.produce(RECORDS)
        with pytest.raises(AirflowTaskTimeout):
            run(world, UserFunction(apply=function, unit=True))
        assert world.doubted() == list(range(100, 200))
        finish(world, seen)
        assert seen == [*range(100), *range(200, 300)]


def test_s7_an_end_while_the_no_of_a_check_ripens_leaves_one_doubt() -> None:
    """The call under way may still arrive; nothing after it has begun."""
    seen: list[int] = []

    def function(record: Any) -> None:
        if record.offset == AT and AT not in seen:
            raise TimeoutError("no answer")
        seen.append(record.offset)

    def no(_: Any) -> bool:
        member.stop()
        return False

    with Members(member={"max_batch_records": RECORDS, "effect_timeout_s": 60.0}) as world:
        world.produce(RECORDS)
        member = world.start(UserFunction(apply=function, check=no), world.until_end())
        assert member.join().failure is not None
        assert world.doubted() == [AT]
        assert world.frontier() == AT + 1


def test_l1_the_gap_below_the_first_record_is_no_part_of_the_first_window() -> None:
    """A fence over it would have every offset of it in question: after an outage longer than retention, millions."""
    within: list[tuple[int, int, int]] = []
    with Members(member={"max_batch_records": RECORDS}) as world:
        world.broker.gap(TOPIC, 0, 1000)
        world.produce(3)

        def function(record: Any) -> None:
            (claim,) = [
                c for place in world.ledger.state.places.values() for c in place.claims if not c.settled
            ]
            within.append((claim.applied, record.offset, claim.started))

        run(world, UserFunction(apply=function))
    assert [offset for _, offset, _ in within] == [1000, 1001, 1002]
    assert within[0][0] == 1000, "applied up to the first record"
    assert all(applied <= offset < started for applied, offset, started in within)
