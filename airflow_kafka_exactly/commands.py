"""What `airflow kafka-exactly …` does. Each command prints a table for people or JSON for programs, and ends with an error of
one sentence (exit status 1) when it cannot do its work."""

from __future__ import annotations

import functools
import getpass
import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from airflow.cli.simple_table import AirflowConsole
from airflow.utils.cli import suppress_logs_and_warning
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from airflow_kafka_exactly import hooks, wiring
from airflow_kafka_exactly.adapters.kafka import ClusterAdmin
from airflow_kafka_exactly.adapters.postgres import migrate as migrate_ledger
from airflow_kafka_exactly.adapters.zookeeper import ZooKeeperDirectory
from airflow_kafka_exactly.errors import ConfigurationError, KafkaExactlyError, Unavailable
from airflow_kafka_exactly.ports import KafkaAdmin
from airflow_kafka_exactly.protocol.record import Partition
from airflow_kafka_exactly.runtime.coordinator import Coordinator
from airflow_kafka_exactly.runtime.evidence import give_up
from airflow_kafka_exactly.runtime.status import CoordinatorState
from airflow_kafka_exactly.stopping import StopRequest

Row = Mapping[str, Any]
LOOK_EVERY_S = 0.1
TRY_AGAIN_S = 5.0


def _command(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """Errors in one sentence; connections from environment variables and from Airflow's own database alike."""

    @functools.wraps(function)
    def run(args: Any) -> None:
        # Outside of a task Airflow asks its database for connections only in a process that says so.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        try:
            function(args)
        except KafkaExactlyError as error:
            raise SystemExit(f"airflow kafka-exactly: {error}") from None

    wrapped: Callable[[Any], None] = providers_configuration_loaded(run)
    return wrapped


def _quiet(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """Logs would spoil what is printed for programs (`--verbose` shows them)."""
    wrapped: Callable[[Any], None] = suppress_logs_and_warning(_command(function))
    return wrapped


# -- the ledger's schema -----------------------------------------------------------------------------------------------


@_quiet
def migrate(args: Any) -> None:
    settings = hooks.ledger_settings()
    before, after = migrate_ledger(settings)
    done = "is up to date" if before == after else f"was brought from version {before} to {after}"
    text = f"the ledger's schema {settings.schema!r} (connection {settings.connection!r}) {done}, version {after}"
    _print(args, {"schema": settings.schema, "before": before, "after": after}, lambda: print(text))


# -- what there is -----------------------------------------------------------------------------------------------------


@_quiet
def status(args: Any) -> None:
    problems: list[str] = []
    with wiring.shared_ledger(hooks.ledger_settings()) as ledgers:
        found = dict(ledgers.report.status())
    found["leader"] = {
        "name": found.get("leader"),
        "epoch": found.pop("epoch"),
        "since": found.pop("raised_at"),
    }
    found["leader"]["address"], found["contenders"] = None, []
    with _noting(problems):
        directory = ZooKeeperDirectory(hooks.election_settings())
        try:
            found["leader"]["address"] = directory.leader_address()
            found["contenders"] = list(directory.contenders())
        finally:
            directory.close()
    if not found["leader"]["address"]:
        problems.append("no leader: start one with `airflow kafka-exactly coordinator`")
    with _noting(problems):
        found["partitions"] = _with_lag(_admin(args), found["partitions"])
    found["problems"] = problems
    _print(args, found, lambda: _print_status(found))


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """What cannot be asked is a line of the answer, not its end."""
    try:
        yield
    except KafkaExactlyError as error:
        problems.append(str(error))


def _with_lag(admin: KafkaAdmin, partitions: Sequence[Row]) -> list[Row]:
    """Records between what is settled and the log's end."""
    topics = sorted({row["topic"] for row in partitions})
    ends = {(p.topic_id, p.number): end for p, end in admin.end_offsets(topics).items()} if topics else {}
    return [
        {**row, "lag": None if end is None else max(0, end - row["frontier"])}
        for row in partitions
        for end in [ends.get((row["topic_id"], row["partition"]))]
    ]


def _print_status(found: Row) -> None:
    leader = found["leader"]
    print(f"leader      {leader['address'] or 'none'}  (epoch {leader['epoch']}, since {leader['since']})")
    print(f"contenders  {', '.join(found['contenders']) or 'none'}")
    print(
        f"open        {found['claims_open']} claims, {sum(row['count'] for row in found['doubts'])} doubts, "
        f"{found['orphans_open']} orphan commits; {found['dead_letters']} dead letters, "
        f"{found['doubts_lost']} lost doubts"
    )
    for problem in found["problems"]:
        print(f"problem     {problem}")
    _table("members", found["members"], "group_id slot incarnation kind state lease_left_s process owner")
    _table("partitions", found["partitions"], "group_id topic partition frontier committed lag")
    _table("doubts", found["doubts"], "group_id kind state count")


@_quiet
def doubts(args: Any) -> None:
    with wiring.shared_ledger(hooks.ledger_settings()) as ledgers:
        rows = ledgers.report.doubts(args.group, not args.all)
    columns = "doubt_id group_id topic partition start stop kind state durable slot decided_by outcome reason"
    _print(args, rows, lambda: _table("doubts", rows, columns))


@_quiet
def close_doubts(args: Any) -> None:
    """Exit status 1 when one of them stays open; the others are closed."""
    with wiring.shared_ledger(hooks.ledger_settings()) as ledgers:
        refused = give_up(ledgers.evidence, args.doubts, getpass.getuser(), args.reason)
    rows = [{"doubt_id": d, "closed": d not in refused, "why": refused.get(d)} for d in args.doubts]
    _print(args, rows, lambda: _table("closed as lost", rows, "doubt_id closed why"))
    if refused:
        raise SystemExit(1)


@_quiet
def orphans(args: Any) -> None:
    with wiring.shared_ledger(hooks.ledger_settings()) as ledgers:
        rows = ledgers.report.orphans(args.group, not args.all)
    columns = "orphan_id group_id topic partition start stop state reason drained_by created_at closed_at"
    _print(args, rows, lambda: _table("orphan commits", rows, columns))


@_quiet
def dead_letters(args: Any) -> None:
    with wiring.shared_ledger(hooks.ledger_settings()) as ledgers:
        rows = ledgers.report.dead_letters(args.group)
    columns = "dead_letter_id group_id topic partition offset reason attempts doubt_id buried_by buried_at"
    _print(args, rows, lambda: _table("dead letters", rows, columns))


@_quiet
def groups_move(args: Any) -> None:
    """`airflow kafka-exactly groups move`."""
    with wiring.shared_ledger(hooks.ledger_settings()) as ledgers:
        before = ledgers.member.move_group(args.group, args.dag, args.task, getpass.getuser())
    row = {
        "group_id": args.group,
        "dag_id": args.dag,
        "task_id": args.task,
        "before": before and list(before),
    }
    _print(args, row, lambda: _table("moved", [row], "group_id dag_id task_id before"))


@_quiet
def lost(args: Any) -> None:
    with wiring.shared_ledger(hooks.ledger_settings()) as ledgers:
        rows = ledgers.report.lost(args.group)
    _print(
        args,
        rows,
        lambda: _table("lost", rows, "lost_id group_id topic partition start stop found_by found_at"),
    )


@_quiet
def reconcile(args: Any) -> None:
    """Exit status 1 when an offset below the committed one has no final outcome, or more than one (case 1)."""
    with wiring.shared_ledger(hooks.ledger_settings()) as ledgers:
        mine = [row for row in ledgers.report.status()["partitions"] if row["group_id"] == args.group]
        if not mine:
            raise ConfigurationError(f"the ledger knows no consumer group {args.group!r}")
        partitions = [Partition(row["topic_id"], row["partition"], row["topic"]) for row in mine]
        committed = _admin(args).committed(args.group, partitions)
        deviations = ledgers.report.reconcile(args.group, committed)
    found = {"group": args.group, "committed": sum(committed.values()), "deviations": deviations}
    text = (
        f"{args.group}: {len(committed)} partitions, {len(deviations)} deviations below the committed offsets"
    )

    def for_people() -> None:
        print(text)
        if deviations:
            _table("deviations", deviations, " ".join(deviations[0]))

    _print(args, found, for_people)
    if deviations:
        raise SystemExit(1)


def _admin(args: Any) -> KafkaAdmin:
    connection = args.kafka_config_id or hooks.KAFKA.conn_id
    return ClusterAdmin(connection, hooks.kafka_client_config(connection))


# -- a coordinator of its own ------------------------------------------------------------------------------------------


@_command
def coordinator(args: Any) -> None:
    """Until SIGTERM or SIGINT; then it resigns, within a second, and the next contender leads."""
    stop, request = threading.Event(), StopRequest()
    before = {
        number: signal.signal(number, lambda *_: request.make()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    say = _say_json if args.output == "json" else _say
    try:
        with request.passed_to(stop):
            _contend(args, stop, say)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _contend(args: Any, stop: threading.Event, say: Callable[[str, Row], None]) -> None:
    services = hooks.service_settings()
    wiring.clusters.resolve_with(hooks.kafka_client_config, args.kafka_config_id or hooks.KAFKA.conn_id)
    while not stop.is_set():
        try:
            with wiring.coordinator(services) as contender:
                watch(contender, stop, say)
        except Unavailable as outage:
            say("waiting", {"for": str(outage)})
            stop.wait(TRY_AGAIN_S)
    say("stopped", {})


def watch(contender: Coordinator, stop: threading.Event, say: Callable[[str, Row], None]) -> None:
    """Say every change of a contender's state, until told to stop."""
    said: tuple[str, Row] | None = None
    while not stop.is_set():
        now = in_words(contender.state())
        if now != said:
            say(*now)
            said = now
        stop.wait(LOOK_EVERY_S)


def in_words(state: CoordinatorState) -> tuple[str, Row]:
    """A role, and what belongs to it."""
    words: dict[str, Any] = {"address": state.address}
    if state.leads:
        role = "leading"
        words |= {"epoch": state.epoch, "members": len(state.members), "standbys": len(state.standbys)}
    elif state.role in ("raising", "loading"):
        role = "taking office"
        words |= {"epoch": state.epoch}
    else:
        role = "following" if state.follows else "contending"
    return role, {**words, **({"trouble": state.error} if state.error else {})}


def _say(what: str, words: Row) -> None:
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    print(" ".join([now, what, *(f"{name}={value}" for name, value in words.items())]), flush=True)


def _say_json(what: str, words: Row) -> None:
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    print(json.dumps({"at": now, "state": what, **words}, default=str), flush=True)


# -- printing ----------------------------------------------------------------------------------------------------------


def _print(args: Any, found: Any, for_people: Callable[[], None]) -> None:
    if args.output == "json":
        print(json.dumps(found, default=str, indent=2))
    else:
        for_people()


def _table(title: str, rows: Iterable[Row], columns: str) -> None:
    shown = [{name: _cell(row.get(name)) for name in columns.split()} for row in rows]
    print(f"\n{title}" if shown else f"\n{title}: none")
    if shown:
        AirflowConsole().print_as(shown, output="table")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return "" if value is None else str(value)
