"""The operator's parameters, looked at in one place: what is no template when the DAG is read, all of it again after rendering.

A template may render to another type, to nothing, or to the same topic twice. Each error names the parameter.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from airflow_kafka_exactly.errors import ConfigurationError

log = logging.getLogger(__name__)

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_ZERO: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_MOST_RECORDS: Final = 1_000_000
"""Kafka's client hands out no more at once."""


def _refuse(name: str, value: object, wanted: str) -> ConfigurationError:
    return ConfigurationError(f"{name}={value!r} ({type(value).__name__}): {wanted}")


def check_numbers(given: Mapping[str, Any]) -> None:
    """The parameters that are numbers or switches, by name."""
    for name, check in _CHECKS.items():
        if name in given:
            check(name, given[name])


def _whole(least: int, most: int | None = None, *, optional: bool = False) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if optional and value is None:
            return
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        if isinstance(value, bool) or not isinstance(value, int):
            raise _refuse(name, value, f"a whole number, {limits}, please")
        if value < least or (most is not None and value > most):
            raise _refuse(name, value, limits)

    return check


def _seconds(least: float, most: float = math.inf, *, optional: bool = False) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if optional and value is None:
            return
        limits = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _refuse(name, value, f"a number of seconds, {limits}, or a timedelta, please")
        if not least <= value <= most:
            raise _refuse(name, value, f"{limits} s")

    return check


def _switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _refuse(name, value, "True or False, please")


_CHECKS: Final[Mapping[str, Callable[[str, Any], None]]] = {
    "max_attempts": _whole(1),
    # It doubles from try to try: nothing doubled is a loop without a pause.
    "record_retry_delay": _seconds(0.01),
    "outage_grace": _seconds(0),
    "max_batch_size": _whole(1, _MOST_RECORDS),
    "max_batch_wait": _seconds(0),
    "max_records": _whole(1, optional=True),
    "idle_timeout": _seconds(0, optional=True),
    "effect_timeout": _seconds(0, optional=True),
    "session_timeout": _seconds(6, 45),
    "adopt_offsets": _switch,
    "deferrable": _switch,
}


def topics_of(value: Any) -> list[str]:
    """Each topic once, in the given order."""
    given = [value] if isinstance(value, str) else value
    if isinstance(given, bytes) or not isinstance(given, Sequence):
        raise _refuse("topics", value, "a topic's name, or a list of them, please")
    if not given:
        raise _refuse("topics", value, "name at least one topic")
    for topic in given:
        if isinstance(topic, str) and topic.startswith("^"):
            raise _refuse("topics", topic, "patterns are not supported, name each topic")
        if not isinstance(topic, str) or not _TOPIC.fullmatch(topic) or topic in {".", ".."}:
            raise _refuse("topics", topic, "no name of a Kafka topic")
    return list(dict.fromkeys(given))


def name_of(parameter: str, value: Any) -> str:
    """A consumer group, or a connection id."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _refuse(parameter, value, "a name that is not blank, please")
    return value


def arguments_of(args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    """The function's and the check's further arguments. They are kept in the ledger, for the process that asks the check."""
    if isinstance(args, str) or not isinstance(args, Sequence):
        raise _refuse("apply_function_args", args, "a list, please")
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise _refuse("apply_function_kwargs", kwargs, "a dictionary of named arguments, please")
    for at, value in enumerate(args):
        _json(f"apply_function_args[{at}]", value)
    for name, value in kwargs.items():
        _json(f"apply_function_kwargs[{name!r}]", value)
    return list(args), dict(kwargs)


def _json(name: str, value: Any) -> None:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _refuse(
            name, value, f"it is kept as JSON, which this is not ({error}): give it as text"
        ) from error
    if _ZERO.search(text):
        raise _refuse(name, value, "text with a zero byte cannot be kept: give it in another form")


def warn_if_short(execution_timeout: timedelta | None, outage_grace_s: float) -> None:
    if execution_timeout is not None and execution_timeout.total_seconds() <= outage_grace_s:
        log.warning(
            "execution_timeout (%.0f s) is not longer than outage_grace (%.0f s): a record that alone fails ends several runs of "
            "this task before it becomes a dead letter",
            *(execution_timeout.total_seconds(), outage_grace_s),
        )


def place_of(ti: Any) -> dict[str, Any]:
    """Who a task instance is to the ledger: its slot in the group, and whose it is."""
    return {
        "slot": f"{ti.dag_id}.{ti.task_id}" + (f"[{ti.map_index}]" if ti.map_index >= 0 else ""),
        "owner": f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}",
        "dag_id": ti.dag_id,
        "task_id": ti.task_id,
    }
