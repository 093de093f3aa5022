"""What a DAG author drops into a DAG: `KafkaExactlyOnceOperator`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_kafka_exactly import hooks, parameters, wiring
from airflow_kafka_exactly.errors import (
    ConfigurationError,
    ConnectionMissing,
    KafkaExactlyError,
    SlotBusy,
    Unavailable,
)
from airflow_kafka_exactly.failures import as_airflows, until_deadline
from airflow_kafka_exactly.functions import reference_of, resolve
from airflow_kafka_exactly.protocol.claims import CheckReference, LifeKind
from airflow_kafka_exactly.protocol.lost import ON_LOST_RECORDS
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.calling import refuse_idle
from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.member import Member
from airflow_kafka_exactly.runtime.membership import Membership
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.settings import MemberSettings
from airflow_kafka_exactly.stopping import StopRequest
from airflow_kafka_exactly.triggers import ConsumeTrigger

log = logging.getLogger(__name__)
DEFER_WHEN_IDLE_S = 1.5
STAY_S = 300.0
"""So long a task is idle in its worker before it asks again whether a triggerer has room for it."""
OPEN_WITHIN_S, OPEN_AGAIN_S = 10.0, 2.0
"""So long a task tries to begin while a service is away, and how often."""
BUSY_AGAIN_S = 10.0
"""When it finds its slot busy there."""
CHOICES = {
    "until": ("end", "forever"),
    "effect": ("external", "ledger"),
    "identity": ("offset",),
    "on_exception": ("check", "not_applied"),
    "on_undecidable": ("person", "redo", "discard", "dead_letter"),
    "on_busy": ("wait", "fail"),
    "on_lost_records": ON_LOST_RECORDS,
}


class KafkaExactlyOnceOperator(BaseOperator):
    """Give every record of some topics its effect exactly once.

    The operator is a member of the consumer group `group_id`: it polls a batch, asks the leader for votes, claims the records
    in the ledger, calls your function for each, and commits offsets. When it has caught up it waits in the triggerer. Map it
    (`.partial(...).expand(...)`) to have several members.

    :param topics: the topics to consume (templated).
    :param kafka_config_id: an Airflow connection of type `kafka`.
    :param group_id: the consumer group; by default `dag_id.task_id` (templated). It must not be used by anything else.
    :param apply_function: called with each `Record`; a callable or a dotted path.
    :param apply_function_batch: instead of it: called with a list of records, which is judged as a whole.
    :param apply_function_args: further arguments of the function and of the check (templated).
    :param apply_function_kwargs: further named arguments of both (templated).
    :param check: answers whether the effect of a record (or list of records) has happened: True, False, or None when it
        cannot tell. Read-only; asked after a crash or an exception; found again by other processes, so a function of a module.
    :param effect: "external" (default), or "ledger": your function gets `cursor=`, a cursor inside the ledger's own
        transaction, and its effect is there or not there together with the applied mark.
    :param on_exception: what an exception of the function means. "check" (default): ask the check, and a person when there is
        none; "not_applied": you vouch that nothing has happened.
    :param on_undecidable: what becomes of a record that no fact decides: "person" (default), "redo", "discard" or
        "dead_letter".
    :param max_attempts: how often a record that provably had no effect is tried before it becomes a dead letter.
    :param record_retry_delay: seconds between its first and second try; doubles up to a minute. (`retry_delay` is Airflow's own.)
    :param outage_grace: while everything fails, no record becomes a dead letter before its tries span so many seconds.
    :param max_batch_size: records in a batch. :param max_batch_wait: seconds that a batch waits to fill.
    :param until: "end" (default): until the group has reached the end offsets seen at the start; "forever".
    :param max_records: end after so many records. :param idle_timeout: end after so many seconds without a record.
    :param on_busy: when another live task instance holds this slot (overlapping DAG runs): "wait" (default) or "fail".
    :param identity: what makes two records the same: "offset" (cluster, topic id, partition, offset).
    :param effect_timeout: seconds after which a call that was under way when its worker died is surely over in the target.
    :param session_timeout: seconds after which Kafka gives a silent member's partitions away (default: 15).
    :param adopt_offsets: take over a group that a plain consumer has committed offsets for.
    :param on_lost_records: when Kafka deleted records (retention) before they were read: "fail" (default), or "skip" them and
        list them in the ledger.
    :param deferrable: wait in the triggerer instead of in a worker slot.

    Returns (XCom) a small summary: `{"version": 1, "counts": {...}, "ranges": [...]}`.
    """

    template_fields: Sequence[str] = (
        "topics",
        "group_id",
        "kafka_config_id",
        "apply_function_args",
        "apply_function_kwargs",
    )
    ui_color = "#e8f4ea"

    def __init__(  # noqa: PLR0913 - an operator's parameters are its user interface
        self,
        *,
        topics: str | Sequence[str],
        kafka_config_id: str = "kafka_default",
        group_id: str | None = None,
        apply_function: Callable[..., Any] | str | None = None,
        apply_function_batch: Callable[..., Any] | str | None = None,
        apply_function_args: Sequence[Any] | None = None,
        apply_function_kwargs: Mapping[str, Any] | None = None,
        check: Callable[..., bool | None] | str | None = None,
        effect: str = "external",
        on_exception: str = "check",
        on_undecidable: str = "person",
        max_attempts: int = 3,
        record_retry_delay: float | timedelta = 1.0,
        outage_grace: float | timedelta = 600.0,
        max_batch_size: int = 1000,
        max_batch_wait: float | timedelta = 1.0,
        until: str = "end",
        max_records: int | None = None,
        idle_timeout: float | timedelta | None = None,
        on_busy: str = "wait",
        identity: str = "offset",
        effect_timeout: float | timedelta | None = None,
        session_timeout: float | timedelta = 15.0,
        adopt_offsets: bool = False,
        on_lost_records: str = "fail",
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topics = topics
        self.kafka_config_id = kafka_config_id
        self.group_id = group_id
        self.apply_function, self.apply_function_batch = apply_function, apply_function_batch
        self.apply_function_args: Any = () if apply_function_args is None else apply_function_args
        self.apply_function_kwargs: Any = {} if apply_function_kwargs is None else apply_function_kwargs
        self.check = check
        self.effect, self.on_exception, self.on_undecidable = effect, on_exception, on_undecidable
        self.max_attempts, self.max_batch_size = max_attempts, max_batch_size
        self.record_retry_delay, self.outage_grace = _seconds(record_retry_delay), _seconds(outage_grace)
        self.max_batch_wait, self.idle_timeout = _seconds(max_batch_wait), _seconds(idle_timeout)
        self.until, self.max_records, self.on_busy, self.identity = until, max_records, on_busy, identity
        self.effect_timeout, self.session_timeout = _seconds(effect_timeout), _seconds(session_timeout)
        self.adopt_offsets, self.on_lost_records = adopt_offsets, on_lost_records
        self.deferrable = deferrable
        self._killed = self._opened = False
        self._stop: StopRequest | None = None
        self._check_parameters()

    def _check_parameters(self) -> None:
        """Refuse what cannot work while the DAG is parsed, where its author sees it."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigurationError(
                    f"{name}={getattr(self, name)!r}: choose one of {', '.join(map(repr, choices))}"
                )
        if (self.apply_function is None) == (self.apply_function_batch is None):
            raise ConfigurationError(
                "give either apply_function (per record) or apply_function_batch (per batch)"
            )
        parameters.check_numbers(vars(self))
        for given in (self.apply_function, self.apply_function_batch, self.check):
            if given is not None and not isinstance(given, str):
                refuse_idle(given)
        if self.check is not None:
            reference_of(self.check)

    def _take_rendered(self) -> None:
        """What the templates have become."""
        self.topics = parameters.topics_of(self.topics)
        if self.group_id is not None:
            self.group_id = parameters.name_of("group_id", self.group_id)
        self.kafka_config_id = parameters.name_of("kafka_config_id", self.kafka_config_id)
        self.apply_function_args, self.apply_function_kwargs = parameters.arguments_of(
            self.apply_function_args, self.apply_function_kwargs
        )

    # -- Airflow's entry points

    def execute(self, context: Any) -> dict[str, Any]:
        parameters.warn_if_short(self.execution_timeout, self.outage_grace)
        deadline = self._deadline()
        with as_airflows():
            return self._patiently(lambda: self._stint(context, Summary(), None, deadline), Unavailable)

    def resume(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after a wait in the triggerer. All that is needed is in the event, so that `dag.test()` works."""
        if event.get("error"):
            raise (AirflowFailException if event.get("final") else AirflowException)(event["error"])
        summary = Summary.from_dict(event["summary"])
        if event["ending"] in (Ending.END, Ending.IDLE_TIMEOUT):
            return summary.as_dict()
        until = Until.from_dict(event["until"]) if event["until"] else None
        if until is not None and (event["ending"] == Ending.NO_ROOM or until.defer_when_idle_s == STAY_S):
            until = dataclasses.replace(until, defer_when_idle_s=self._defer_when_idle_s(event["ending"]))
        deadline = event.get("deadline")
        with until_deadline(deadline), as_airflows():
            try:
                return self._patiently(
                    lambda: self._stint(context, summary, until, deadline), Unavailable, ConnectionMissing
                )
            except (Unavailable, ConnectionMissing) as away:
                if self._opened or until is None:
                    raise
                # A retry would begin anew: count again, and forget how far it was to go.
                log.warning("back to the triggerer, which waits for it: %s", away)
                self._wait(context, summary, until, deadline)

    def on_kill(self) -> None:
        """Finish the record in hand, give the rest back, sign off. Called from Airflow's signal handler, at any moment."""
        self._killed = True
        if self._stop is not None:
            self._stop.make()

    # -- one stint in a worker

    def _patiently(
        self, stint: Callable[[], dict[str, Any]], *passing: type[KafkaExactlyError]
    ) -> dict[str, Any]:
        """What is away when a stint begins is waited for, a while; what goes away later is waited for inside."""
        ends_at = time.monotonic() + OPEN_WITHIN_S
        while True:
            self._opened = False
            try:
                return stint()
            except passing as away:
                if self._opened or self._stop is None or time.monotonic() >= ends_at:
                    raise
                log.warning("this task cannot begin yet and tries again: %s", away)
            self._stop.pause(OPEN_AGAIN_S)

    def _stint(
        self, context: Any, summary: Summary, until: Until | None, deadline: float | None
    ) -> dict[str, Any]:
        if deadline is not None and time.time() >= deadline:
            raise AirflowException("execution_timeout has passed (time in the triggerer counts)")
        stop = self._stop = StopRequest()  # not before: Airflow copies operators
        if self._killed:
            raise Stopped
        self._take_rendered()
        services = hooks.service_settings()
        settings = self._member_settings(context, services.lease)
        reference = self._check_reference()
        function = self._function()
        wiring.clusters.resolve_with(hooks.kafka_client_config, hooks.KAFKA.conn_id)
        hosted = wiring.hosted_contender(services) if hooks.worker_contends() else contextlib.nullcontext()
        with (
            hosted,
            wiring.member_ports(services, settings.kafka, guarded=self.effect == "external") as ports,
        ):
            if until is None:
                until = self._until(
                    ports.admin.end_offsets(settings.kafka.topics) if self.until == "end" else {}
                )
            stop.check()
            membership = Membership(ports, settings, LifeKind.WORKER, summary, check=reference)
            try:
                with stop.passed_to(membership.background.stopping), membership:
                    self._opened = True
                    member = Member(membership, function, until)
                    ending = member.run()
            except SlotBusy:
                if self.on_busy == "fail" or not self.deferrable:
                    raise
                if until.defer_when_idle_s == STAY_S:
                    stop.pause(BUSY_AGAIN_S)
                self._wait(context, summary, until, deadline)
        if ending is Ending.IDLE:
            summary.count("deferrals")
            if until.max_records is not None:
                until = dataclasses.replace(until, max_records=until.max_records - member.ran_records)
            self._wait(context, summary, until, deadline)
        return summary.as_dict()

    def _wait(self, context: Any, summary: Summary, until: Until, deadline: float | None) -> NoReturn:
        self.defer(
            trigger=ConsumeTrigger(
                kafka_config_id=self.kafka_config_id,
                group_id=self._group(context["ti"]),
                topics=list(self.topics),
                **parameters.place_of(context["ti"]),
                session_timeout_s=self.session_timeout,
                max_batch_records=self.max_batch_size,
                on_busy=self.on_busy,
                adopt_offsets=self.adopt_offsets,
                on_lost_records=self.on_lost_records,
                until=until.as_dict(),
                summary=summary.as_dict(),
                deadline=deadline,
            ),
            method_name="resume",
            timeout=None if deadline is None else timedelta(seconds=max(1.0, deadline - time.time())),
        )

    def _defer_when_idle_s(self, ending: str = "") -> float | None:
        if not self.deferrable:
            return None
        if ending != Ending.NO_ROOM:
            return DEFER_WHEN_IDLE_S
        log.warning(
            "the triggerer has no room for one more waiting member (open files, see its log): this task stays in its worker, "
            "and asks again when it has been idle for %.0f s",
            STAY_S,
        )
        return STAY_S

    # -- from parameters to settings

    def _member_settings(self, context: Any, lease: Any) -> MemberSettings:
        ti = context["ti"]
        kafka = hooks.kafka_settings(
            self.kafka_config_id,
            self._group(ti),
            self.topics,
            session_timeout_s=self.session_timeout,
            adopt_offsets=self.adopt_offsets,
            on_lost_records=self.on_lost_records,
        )
        return MemberSettings(
            **parameters.place_of(ti),
            kafka=kafka,
            lease=lease,
            max_batch_records=self.max_batch_size,
            max_batch_wait_s=self.max_batch_wait or 0.0,
            max_attempts=self.max_attempts,
            retry_delay_s=self.record_retry_delay,
            outage_grace_s=self.outage_grace,
            effect_timeout_s=lease.effect_timeout_s if self.effect_timeout is None else self.effect_timeout,
        )

    def _group(self, ti: Any) -> str:
        return self.group_id or f"{ti.dag_id}.{ti.task_id}"

    def _until(self, ends: Mapping[Any, int]) -> Until:
        return Until(
            ends=dict(ends),
            to_end=self.until == "end",
            max_records=self.max_records,
            idle_timeout_s=self.idle_timeout,
            defer_when_idle_s=self._defer_when_idle_s(),
        )

    def _function(self) -> UserFunction:
        given = self.apply_function if self.apply_function is not None else self.apply_function_batch
        assert given is not None
        return UserFunction(
            apply=self._with_arguments(given),
            unit=self.apply_function is None,
            in_ledger=self.effect == "ledger",
            check=None if self.check is None else self._with_arguments(self.check),
            vouches=self.on_exception == "not_applied",
        )

    def _with_arguments(self, given: Callable[..., Any] | str) -> Callable[..., Any]:
        """`given(records, *args, **kwargs)`, with the arguments unchanged (case 18)."""
        function = resolve(reference_of(given, self._dag_file())) if isinstance(given, str) else given
        refuse_idle(function)
        args, kwargs = self.apply_function_args, self.apply_function_kwargs

        @functools.wraps(function, (), ())  # whoever looks at the value must know whose it is
        def call(records: Any, **more: Any) -> Any:
            return function(records, *args, **kwargs, **more)

        return call

    def _dag_file(self) -> str:
        return str(self.dag.fileloc) if self.has_dag() else ""  # type: ignore[no-untyped-call] # of Airflow

    def _check_reference(self) -> CheckReference:
        """How the evidence check finds the check again, and what was chosen in writing."""
        found = CheckReference() if self.check is None else reference_of(self.check, self._dag_file())
        timeout = self.effect_timeout
        return dataclasses.replace(
            found,
            args=self.apply_function_args,
            kwargs=self.apply_function_kwargs,
            batch=self.apply_function is None,
            on_undecidable=self.on_undecidable,
            effect_timeout_s=hooks.lease_settings().effect_timeout_s if timeout is None else timeout,
        )

    def _deadline(self) -> float | None:
        """`execution_timeout` as a moment: Airflow itself starts it anew after each deferral."""
        limit = self.execution_timeout
        return None if limit is None else time.time() + limit.total_seconds()


def _seconds(value: float | timedelta | None) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value
