"""What Airflow is told about this package: commands, options, plugin."""

import argparse
import dataclasses
import json
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from airflow_kafka_exactly import cli, provider
from airflow_kafka_exactly.settings import FilterSettings, LeaseSettings, LedgerSettings

INFO = provider.get_provider_info()
OPTIONS = INFO["config"]["kafka_exactly"]["options"]


def test_the_description_is_one_that_airflow_accepts() -> None:
    import jsonschema
    from airflow import providers_manager

    schema = json.loads(
        (
            __import__("pathlib").Path(providers_manager.__file__).parent / "provider_info.schema.json"
        ).read_text()
    )
    jsonschema.validate(INFO, schema)
    assert INFO["package-name"] == "airflow-kafka-exactly"


def test_what_the_description_names_exists() -> None:
    for kind in ("operators", "triggers", "hooks"):
        for entry in INFO[kind]:
            assert all(find_spec(name) for name in entry["python-modules"])
    for name in INFO["cli"]:
        module, _, function = name.rpartition(".")
        assert callable(getattr(import_module(module), function))


def test_the_options_defaults_are_the_settings_own() -> None:
    names = {"lease_margin_s": "margin_s", "filter_capacity": "capacity", "filter_error_rate": "error_rate"}
    defaults = {f.name: f.default for s in (LeaseSettings, FilterSettings) for f in dataclasses.fields(s)}
    for option in ("lease_s", "lease_margin_s", "renew_every_s", "effect_timeout_s", "fence_grace_s", *names):
        assert float(OPTIONS[option]["default"]) == defaults[names.get(option, option)]
    schema = next(f for f in dataclasses.fields(LedgerSettings) if f.name == "schema")
    assert OPTIONS["ledger_schema"]["default"] == schema.default


def test_every_option_that_is_read_is_described() -> None:
    from airflow_kafka_exactly import hooks

    assert {s.option for s in (hooks.LEDGER, hooks.ZOOKEEPER, hooks.CHANNEL, hooks.KAFKA)} <= OPTIONS.keys()
    for service in (hooks.LEDGER, hooks.ZOOKEEPER, hooks.CHANNEL, hooks.KAFKA):
        assert OPTIONS[service.option]["default"] == service.default


def test_the_commands_are_import_light() -> None:
    """Airflow imports this at each start of any of its commands."""
    heavy = "sorted(m for m in ('psycopg', 'grpc', 'kazoo', 'confluent_kafka', 'numpy') if m in sys.modules)"
    code = f"import sys, airflow_kafka_exactly.cli as c; c.get_commands(); import airflow_kafka_exactly.provider; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_each_command_leads_to_a_function() -> None:
    commands = import_module("airflow_kafka_exactly.commands")
    (group,) = cli.get_commands()
    assert group.name == "kafka-exactly"
    names = [command.name for command in group.subcommands]
    assert names == [
        "migrate",
        "status",
        "doubts",
        "close-doubts",
        "orphans",
        "dead-letters",
        "lost",
        "reconcile",
        "groups",
        "coordinator",
    ]
    names[names.index("groups")] = "groups-move"
    assert all(callable(getattr(commands, name.replace("-", "_"))) for name in names)


def test_the_commands_fit_airflows_parser() -> None:
    from airflow.cli.cli_parser import _add_command

    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for command in cli.get_commands():
        _add_command(subparsers, command)
    args = parser.parse_args(["kafka-exactly", "reconcile", "--group", "g", "-o", "json"])
    assert (args.group, args.output, args.kafka_config_id) == ("g", "json", "")
    with pytest.raises(SystemExit):
        parser.parse_args(["kafka-exactly", "reconcile"])


def test_the_plugin_registers_no_listener() -> None:
    from airflow_kafka_exactly.plugin import KafkaExactlyPlugin

    KafkaExactlyPlugin.validate()
    assert KafkaExactlyPlugin.listeners == []
