"""A task that cannot begin because a service is away: it waits a while, and one that was resumed forgets nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    TaskDeferred,
)
from stage import EXAMPLES, context

from airflow_kafka_exactly import hooks, operators, wiring
from airflow_kafka_exactly.errors import ConfigurationError, Unavailable
from airflow_kafka_exactly.operators import KafkaExactlyOnceOperator
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.until import Ending, Until

AWAY = Unavailable("PostgreSQL", "kafka_exactly_ledger", "connection refused")


class Reached(Exception):
    """The services are there."""


class Ports:
    """`wiring.member_ports`, away as often as `failures` says."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.asked = 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        raise Reached


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Ports:
    for conn_id, fields in EXAMPLES.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
    monkeypatch.setattr(hooks, "_found", set())
    monkeypatch.setattr(operators, "OPEN_AGAIN_S", 0.0)
    made = Ports()
    monkeypatch.setattr(wiring, "member_ports", made)
    return made


def operator(**arguments: Any) -> KafkaExactlyOnceOperator:
    given = {"topics": ["t"], "kafka_config_id": "my_kafka", "apply_function": "applied.apply", **arguments}
    return KafkaExactlyOnceOperator(task_id="consume", **given)


def handed_over() -> dict[str, Any]:
    summary = Summary()
    summary.count("applied", 7)
    until = Until(ends={}, to_end=False, max_records=3, idle_timeout_s=None, defer_when_idle_s=1.5)
    return {
        "summary": summary.as_dict(),
        "until": until.as_dict(),
        "deadline": None,
        "ending": Ending.RECORDS,
    }


def test_a_task_waits_for_a_service_that_is_away_when_it_begins(ports: Ports) -> None:
    ports.failures = [AWAY] * 3
    with pytest.raises(Reached):
        operator().execute(context())
    assert ports.asked == 4


def test_it_does_not_wait_for_ever_and_airflow_may_retry_it(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "OPEN_WITHIN_S", 0.0)
    ports.failures = [AWAY]
    with pytest.raises(AirflowException, match="connection refused") as raised:
        operator().execute(context())
    assert not isinstance(raised.value, AirflowFailException)
    assert ports.asked == 1


def test_a_first_start_says_at_once_what_is_set_wrong(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    ports.failures = [ConfigurationError("PostgreSQL: wrong password")]
    with pytest.raises(AirflowFailException, match="wrong password"):
        operator().execute(context())
    monkeypatch.setattr(hooks, "_found", set())
    monkeypatch.delenv("AIRFLOW_CONN_KAFKA_EXACTLY_LEDGER")
    with pytest.raises(AirflowFailException, match="not defined"):
        operator().execute(context())


def test_who_is_stopped_while_he_waits_stops(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    task = operator()
    ports.failures = [AWAY] * 2
    monkeypatch.setattr(operators, "OPEN_AGAIN_S", 60.0)
    really = wiring.member_ports

    def killed_meanwhile(*args: Any, **kwargs: Any) -> Any:
        task.on_kill()
        return really(*args, **kwargs)

    monkeypatch.setattr(wiring, "member_ports", killed_meanwhile)
    with pytest.raises(AirflowException, match="stopped"):
        task.execute(context())
    assert ports.asked == 1


@pytest.mark.parametrize("what", ["the ledger", "a secrets backend"])
def test_what_the_trigger_handed_over_goes_back_to_it(
    ports: Ports, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "OPEN_WITHIN_S", 0.05)
    event, task = handed_over(), operator(until="forever")
    if what == "the ledger":
        ports.failures = [AWAY] * 100_000
    else:
        monkeypatch.setattr(BaseHook, "get_connection", not_found)
    with pytest.raises(TaskDeferred) as deferred:
        task.resume(context(), event)
    arguments = deferred.value.trigger.arguments
    assert {name: arguments[name] for name in ("summary", "until", "deadline")} == {
        name: event[name] for name in ("summary", "until", "deadline")
    }
    assert (arguments["slot"], arguments["owner"]) == ("dag.consume", "dag/run/consume/-1")
    assert (arguments["group_id"], arguments["topics"]) == ("dag.consume", ["t"])
    assert ports.asked > 1 or what != "the ledger"


def not_found(_: str) -> Any:
    raise AirflowNotFoundException("The conn_id isn't defined")
