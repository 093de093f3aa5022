"""Each parameter of the operator that cannot work is refused by its name, before anything is opened."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_kafka_exactly import KafkaExactlyOnceOperator
from airflow_kafka_exactly.errors import ConfigurationError
from airflow_kafka_exactly.parameters import arguments_of, name_of, topics_of, warn_if_short

CONTEXT = {"ti": SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1)}


def operator(**arguments: Any) -> KafkaExactlyOnceOperator:
    given = {"topics": ["orders"], "apply_function": "shop:pay", **arguments}
    return KafkaExactlyOnceOperator(task_id="consume", **given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("record_retry_delay", wrong) for wrong in (None, "1", True, float("nan"), float("inf"), 0, -1)),
        *(("outage_grace", wrong) for wrong in (None, "600", True, float("nan"), float("inf"), -1)),
        ("session_timeout", "15"),
        ("session_timeout", True),
        ("session_timeout", float("nan")),
        ("session_timeout", 5),
        ("session_timeout", dt.timedelta(hours=1)),
        ("max_batch_size", "1000"),
        ("max_batch_size", 0),
        ("max_batch_size", 1.5),
        ("max_batch_size", 2_000_000),
        ("max_batch_size", None),
        ("max_batch_wait", -1),
        ("max_batch_wait", "{{ var.value.wait }}"),
        ("max_attempts", 0),
        ("max_attempts", True),
        ("max_records", 0),
        ("max_records", "10"),
        ("idle_timeout", "soon"),
        ("idle_timeout", float("inf")),
        ("effect_timeout", -0.1),
        ("adopt_offsets", "no"),
        ("deferrable", None),
        ("on_lost_records", "ignore"),
        ("until", None),
    ],
)
def test_what_cannot_work_is_refused_when_the_dag_is_read(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}=") as refused:
        operator(**{name: value})
    if not isinstance(value, dt.timedelta):
        assert repr(value) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "rendered", "named"),
    [
        ("topics", "", "topics=''"),
        ("topics", [], "topics=\\[\\]"),
        ("topics", ["orders", " "], "topics=' '"),
        ("topics", 5, "topics=5"),
        ("topics", None, "topics=None"),
        ("topics", ["orders", 5], "topics=5"),
        ("topics", "^orders.*", "patterns are not supported"),
        ("topics", ["a\0b"], "topics="),
        ("group_id", "", "group_id=''"),
        ("group_id", " ", "group_id=' '"),
        ("group_id", 5, "group_id=5"),
        ("group_id", "a\0b", "group_id="),
        ("kafka_config_id", "", "kafka_config_id=''"),
        ("kafka_config_id", None, "kafka_config_id=None"),
        ("apply_function_args", "a,b", "apply_function_args='a,b'"),
        (
            "apply_function_args",
            [1, dt.datetime(2026, 1, 1, tzinfo=dt.UTC)],
            r"apply_function_args\[1\]=datetime",
        ),
        ("apply_function_args", ["a\0b"], r"apply_function_args\[0\]=.*zero byte"),
        ("apply_function_args", ["\ud800"], r"apply_function_args\[0\]="),
        ("apply_function_args", [float("nan")], r"apply_function_args\[0\]=nan"),
        ("apply_function_kwargs", {"since": dt.date(2026, 1, 1)}, r"apply_function_kwargs\['since'\]="),
        ("apply_function_kwargs", {5: 1}, "apply_function_kwargs="),
        ("apply_function_kwargs", [1], "apply_function_kwargs="),
    ],
)
def test_what_a_template_became_is_refused_by_name(
    name: str, rendered: object, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a retry, and before a connection is looked at."""
    task = operator()
    setattr(task, name, rendered)
    monkeypatch.setattr("airflow_kafka_exactly.hooks.service_settings", lambda: pytest.fail("too late"))
    with pytest.raises(AirflowFailException, match=named):
        task.execute(CONTEXT)


def test_a_topic_named_twice_is_consumed_once() -> None:
    assert topics_of(["b", "a", "b"]) == ["b", "a"]
    assert topics_of("orders") == topics_of(("orders",)) == ["orders"]


def test_what_is_right_passes_unchanged() -> None:
    args, kwargs = [1, "é", None, {"a": [True]}, r"\u0000"], {"x": 0.5}
    assert arguments_of(args, kwargs) == (args, kwargs)
    assert name_of("group_id", "eu.pay-1") == "eu.pay-1"
    operator(session_timeout=dt.timedelta(seconds=20), max_records=None, effect_timeout=0, max_batch_wait=0)


@pytest.mark.parametrize(("minutes", "warns"), [(None, False), (5, True), (10, True), (11, False)])
def test_runs_that_are_shorter_than_the_grace_are_warned_of(
    caplog: pytest.LogCaptureFixture, minutes: int | None, warns: bool
) -> None:
    warn_if_short(None if minutes is None else dt.timedelta(minutes=minutes), 600.0)
    assert ("outage_grace (600 s)" in caplog.text) is warns
