"""A function whose call runs nothing: it must never count as applied, whatever it is that came back in place of a result."""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from airflow.sdk import task
from members import Members

from airflow_kafka_exactly.errors import UnknownFunction
from airflow_kafka_exactly.operators import KafkaExactlyOnceOperator
from airflow_kafka_exactly.protocol.record import FencingToken, Record
from airflow_kafka_exactly.runtime.calling import answer_of, promised, refuse_idle
from airflow_kafka_exactly.runtime.function import Attempt, RanNothing, UserFunction

RECORD = Record("topic", 0, 7, None, b"value", (), 0, "id", FencingToken(1, 1))
effects: list[Any] = []


@pytest.fixture(autouse=True)
def no_effects() -> Iterator[None]:
    effects.clear()
    yield
    assert effects == [], "none of these calls has an effect"


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def bare(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def generator(record: Any, **_: Any) -> Iterator[Any]:
    effects.append(record)
    yield record


async def coroutine(record: Any, **_: Any) -> None:
    effects.append(record)


async def async_generator(record: Any, **_: Any) -> AsyncIterator[Any]:
    effects.append(record)
    yield record


class Caller:
    async def __call__(self, record: Any, **_: Any) -> None:
        effects.append(record)

    async def method(self, record: Any, **_: Any) -> None:
        effects.append(record)


class Loads:
    def __init__(self, record: Any, **_: Any) -> None:
        self.record = record


@task
def airflow_task(record: Any, **_: Any) -> None:
    effects.append(record)


@contextmanager
def entered(record: Any, **_: Any) -> Iterator[None]:
    effects.append(record)
    yield


def lazily(record: Any, **_: Any) -> Any:
    return map(effects.append, [record])


def curried(_: Any, **__: Any) -> Any:
    return lambda record: effects.extend([record])


SEEN_BEFOREHAND = {
    "a generator": generator,
    "async def": coroutine,
    "an asynchronous generator": async_generator,
    "an object with async __call__": Caller(),
    "an async method": Caller().method,
    "a partial of async def": functools.partial(coroutine),
    "a partial of a partial of a generator": functools.partial(functools.partial(generator)),
    "@task": airflow_task,
    "a partial of @task": functools.partial(airflow_task),
    "a class": Loads,
}
SEEN_AFTERWARDS = {
    "async def behind a decorator": logged(coroutine),
    "a generator behind two decorators": logged(logged(generator)),
    "an asynchronous generator behind a decorator": logged(async_generator),
    "a decorated partial of async def": logged(functools.partial(coroutine)),
    "a decorated object with async __call__": bare(Caller()),
    "a decorated @task": logged(airflow_task),
    "async def behind a decorator that hides it": bare(coroutine),
    "a context manager that nobody enters": entered,
    "a map that nobody iterates over": lazily,
    "a function that returns a function": curried,
    "a list of coroutines": lambda record, **_: [coroutine(record)],
    "a dict of coroutines": lambda record, **_: {1: coroutine(record)},
    "a tuple of futures that are not done": lambda *_, **__: (Future(),),
    "a starmap that nobody iterates over": lambda record, **_: itertools.starmap(effects.append, [(record,)]),
    "a thread that nobody starts": lambda record, **_: threading.Thread(
        target=effects.append, args=(record,)
    ),
}
WRAPPED = (
    "async def behind a decorator",
    "a generator behind two decorators",
    "an asynchronous generator behind a decorator",
    "a decorated partial of async def",
    "a decorated @task",
)
PROVEN = {
    **{name: f for name, f in SEEN_BEFOREHAND.items() if f is not Loads},
    **{name: f for name, f in SEEN_AFTERWARDS.items() if name in WRAPPED},
}


@pytest.mark.parametrize("name", SEEN_BEFOREHAND)
@pytest.mark.parametrize("parameter", ["apply_function", "apply_function_batch", "check"])
def test_what_can_be_seen_is_refused_when_the_dag_is_read(name: str, parameter: str) -> None:
    given = {"apply_function": print, parameter: SEEN_BEFOREHAND[name]}
    if parameter == "apply_function_batch":
        del given["apply_function"]
    with pytest.raises(UnknownFunction, match="Give a plain function"):
        KafkaExactlyOnceOperator(task_id="t", topics=["t"], **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SEEN_BEFOREHAND)
def test_what_a_dotted_path_leads_to_is_refused_before_anything_is_consumed(name: str) -> None:
    operator = KafkaExactlyOnceOperator(task_id="t", topics=["t"], apply_function=f"{__name__}.SHOWN")
    globals()["SHOWN"] = SEEN_BEFOREHAND[name]
    with pytest.raises(UnknownFunction, match="Give a plain function"):
        operator._function()


def test_functions_that_run_are_taken() -> None:
    """A decorator may well run the `async def` that it wraps; results of any kind are fine."""

    @functools.wraps(coroutine)
    def runs_it(_: Any) -> int:
        return 3

    done: Future[int] = Future()
    done.set_result(1)
    for function in (runs_it, print, functools.partial(print), [].append, effects.copy):
        refuse_idle(function)
    for result in (None, 3, "x", [1], iter([1]), {}, object(), done, RECORD, Exception("x")):
        assert promised(result) == ""
    UserFunction(apply=runs_it).external([RECORD])


@pytest.mark.parametrize("name", [*SEEN_BEFOREHAND, *SEEN_AFTERWARDS])
@pytest.mark.parametrize("unit", [False, True])
def test_no_such_call_counts_as_applied(name: str, unit: bool) -> None:
    function = UserFunction(apply={**SEEN_BEFOREHAND, **SEEN_AFTERWARDS}[name], unit=unit)
    if name == "a class":  # refused beforehand; an object of a class may as well be a result
        return
    with pytest.raises(RanNothing) as raised:
        function.external([RECORD])
    assert raised.value.proven == (name in PROVEN)
    with pytest.raises(RanNothing):
        function.with_cursor([RECORD], object())


def test_a_future_that_is_not_done_is_no_result() -> None:
    waiting: Future[int] = Future()
    loop = asyncio.new_event_loop()
    for value in (waiting, loop.create_future()):
        with pytest.raises(RanNothing) as raised:
            UserFunction(apply=lambda _, value=value: value).external([RECORD])
        assert not raised.value.proven
    loop.close()


def test_what_a_future_holds_is_what_the_call_did() -> None:
    """`with ThreadPoolExecutor() as pool: return pool.submit(send)`: the future is done, and its work may have failed."""
    failed, cancelled = Future[int](), Future[int]()
    failed.set_exception(ConnectionError("refused"))
    cancelled.cancel()
    with ThreadPool(1) as pool:
        asked = pool.apply_async(int, ["no number"])
        asked.wait()
        for value in (failed, cancelled, [failed], asked):
            function = UserFunction(apply=lambda _, value=value, **__: value, vouches=True)
            assert function.external([RECORD]).attempt is Attempt.NOT_APPLIED
            with pytest.raises((ConnectionError, CancelledError, ValueError)):
                function.with_cursor([RECORD], object())


def test_a_list_that_holds_itself_is_looked_at_once() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert promised(endless) == ""


@pytest.mark.parametrize("name", [*SEEN_BEFOREHAND, *SEEN_AFTERWARDS])
def test_s7_no_such_check_has_answered(name: str) -> None:
    check = {**SEEN_BEFOREHAND, **SEEN_AFTERWARDS}[name]
    assert UserFunction(apply=print, check=check).ask([RECORD]) is Attempt.UNKNOWN
    with pytest.raises(TypeError, match="must answer True, False or None"):
        answer_of(check(RECORD))


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("in_ledger", [False, True])
@pytest.mark.parametrize("name", ["a generator", "async def behind a decorator", "@task"])
def test_s2_the_task_ends_and_nothing_is_lost(name: str, in_ledger: bool, unit: bool) -> None:
    """Nothing of it has run, so the records are given back and the corrected function gets them all."""
    function = {**SEEN_BEFOREHAND, **SEEN_AFTERWARDS}[name]
    with Members() as world:
        world.produce(10)
        ended = world.run(UserFunction(apply=function, in_ledger=in_ledger, unit=unit))
        assert isinstance(ended.failure, UnknownFunction)
        assert (world.frontier(), world.committed(), world.doubted(), world.dead_letters()) == (0, 0, [], 0)
        seen: list[int] = []
        again = world.run(UserFunction(apply=lambda record: seen.append(record.offset)))
        assert again.failure is None
        assert seen == list(range(10))
        assert world.committed() == 10


@pytest.mark.parametrize("in_ledger", [False, True])
def test_s7_what_ran_before_it_is_not_run_again(in_ledger: bool) -> None:
    """A function that pays and then forgets to await something else: the record in hand is a doubt, and no other one is. In
    the ledger's transaction it was rolled back."""
    paid: list[int] = []

    def pays(record: Any, **_: Any) -> Any:
        paid.append(record.offset)
        return coroutine(record) if record.offset == 3 else None

    with Members() as world:
        world.produce(10)
        ended = world.run(UserFunction(apply=pays, in_ledger=in_ledger))
        assert isinstance(ended.failure, UnknownFunction)
        assert paid == [0, 1, 2, 3]
        assert world.doubted() == ([] if in_ledger else [3])
        world.run(UserFunction(apply=lambda record: paid.append(record.offset)))
        assert paid == [0, 1, 2, 3, *([3] if in_ledger else []), *range(4, 10)]
