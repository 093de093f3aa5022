"""Calls that run nothing: what came back is a promise of work, not its result.

A generator, a coroutine or a future that a function returns looks like success to whoever does not look at it: the record
would count as applied, and nothing would have happened. So each call's value is looked at once, and what can be seen in the
callable itself is refused before anything is consumed.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import chain, islice
from multiprocessing.pool import AsyncResult, IMapIterator
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any

from airflow_kafka_exactly.errors import UnknownFunction
from airflow_kafka_exactly.protocol.evidence import Answer

_LAZY = (map, filter, zip, functools.partial, FunctionType, MethodType, IMapIterator)
_MANY = (list, tuple, set, frozenset, dict)
LOOKED_AT_OF_MANY = 100
"""A batch function may return one promise for each record; of what it returns so many are looked at."""
DECORATORS_AT_MOST = 100


def refuse_idle(function: Callable[..., Any]) -> None:
    """`UnknownFunction` for a callable of which a call would run nothing, as far as that can be seen without calling it. Of
    what a decorator wraps nothing can be seen: the decorator may well run it."""
    called = _called(function)
    if inspect.isclass(called):
        kind = "a class: calling it only makes an object"
    elif inspect.iscoroutinefunction(called):
        kind = "`async def`: nobody would await it"
    elif inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        kind = "a generator (it has a `yield`): nobody would iterate over it"
    elif _of_airflow(called):
        kind = "Airflow's (`@task`): calling it only describes a task; leave that decorator out"
    else:
        return
    raise UnknownFunction(f"{function!r} is {kind}. Give a plain function.")


def promised(value: object) -> str:
    """What a call returned in place of a result; "" when it was one."""
    if value is None:
        return ""
    if isinstance(value, CoroutineType | GeneratorType | AsyncGeneratorType):
        return f"the {type(value).__name__} {value.__qualname__}, which nobody runs"
    if isinstance(value, Future | AsyncResult | threading.Thread):
        return "" if _is_over(value) else f"a {type(value).__name__} whose work is not done"
    if isinstance(value, _LAZY) or type(value).__module__ == "itertools" or inspect.isawaitable(value):
        return f"a {type(value).__name__}, which nobody calls or awaits"
    if isinstance(value, _MANY):
        inner = next(filter(None, map(promised, _items(value))), "")
        return inner and f"a {type(value).__name__} with {inner}"
    return _described(value)


def result_of(value: object) -> object:
    """What a future that is over holds: its exception, raised here, is the call's own."""
    for one in _items(value) if isinstance(value, _MANY) else (value,):
        if isinstance(one, Future) and one.done():
            one.result()
        elif isinstance(one, AsyncResult) and one.ready():
            one.get()
    return value


def _is_over(work: Future[Any] | AsyncResult[Any] | threading.Thread) -> bool:
    if isinstance(work, Future):
        return work.done()
    if isinstance(work, AsyncResult):
        return work.ready()
    return work.ident is not None and not work.is_alive()


def _items(many: Any) -> Iterable[object]:
    """Of a list of lists only the outer one is looked at: it may hold itself."""
    items = islice(chain(many, many.values()) if isinstance(many, dict) else many, LOOKED_AT_OF_MANY)
    return (item for item in items if not isinstance(item, _MANY))


def _described(value: object) -> str:
    """Work that only its library knows how to begin."""
    if _of_airflow(value) and "DependencyMixin" in (kind.__name__ for kind in type(value).__mro__):
        return f"Airflow's {type(value).__name__}, which describes a task"
    # What contextlib.contextmanager makes holds a generator that nobody has entered.
    inner = promised(getattr(value, "gen", None)) if type(value).__module__ == "contextlib" else ""
    return inner and f"a context manager around {inner}"


def untouched(function: Callable[..., Any], value: object) -> bool:
    """Whether `value` proves that nothing of `function` has run: it is that function's own body, not begun. Of a function
    that returns what another one promised, nothing is known."""
    body = _body(value)
    return any(
        _of_airflow(layer) or (body is not None and getattr(layer, "__code__", None) is body)
        for layer in _layers(function)
    )


def discard(value: object) -> None:
    """Nobody will run what was promised: say so to Python, which warns of coroutines that are forgotten."""
    if isinstance(value, CoroutineType | GeneratorType):
        value.close()
    for one in _items(value) if isinstance(value, _MANY) else ():
        discard(one)


def answer_of(value: object) -> Answer:
    """What a check answered. `TypeError` when it answered nothing, which is no proof (S7)."""
    what = promised(value)
    if what:
        discard(value)
        raise TypeError(f"the check returned {what}; it must answer True, False or None")
    return Answer.of(value)


def _body(value: object) -> object:
    """The code that `value` will run, when it has not begun."""
    if isinstance(value, CoroutineType) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
        return value.cr_code
    if isinstance(value, GeneratorType) and inspect.getgeneratorstate(value) == inspect.GEN_CREATED:
        return value.gi_code
    if isinstance(value, AsyncGeneratorType) and value.ag_frame is not None:
        return value.ag_code if value.ag_frame.f_lasti <= 0 else None
    return None


def _called(function: Any) -> Any:
    """What a call runs: behind arguments that were bound before, and the `__call__` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isclass(function) or inspect.isroutine(function) or _of_airflow(function):
        return function
    return type(function).__call__


def _layers(function: Any) -> Iterator[Any]:
    """The function, and what it says it stands for (`functools.wraps`)."""
    for _ in range(DECORATORS_AT_MOST):
        called = _called(function)
        yield getattr(called, "__func__", called)
        function = getattr(function, "__wrapped__", None) or getattr(called, "__wrapped__", None)
        if function is None:
            return


def _of_airflow(value: object) -> bool:
    return type(value).__module__.split(".")[0] == "airflow"
