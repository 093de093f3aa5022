"""Case 21, settings part: whatever is wrong with a connection is named by service, connection and field."""

import json
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from airflow_kafka_exactly import connections
from airflow_kafka_exactly.errors import ConfigurationError

SECRET = "0123456789abcdef"


def connection(conn_type: str = "generic", extra: Any = None, **fields: Any) -> Any:
    blank = dict.fromkeys(("host", "port", "login", "password", "schema"))
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return SimpleNamespace(conn_id="my_conn", conn_type=conn_type, extra=text, **{**blank, **fields})


def ledger(**changes: Any) -> Any:
    return connection(
        "postgres", **{"host": "db", "schema": "kx", "login": "kx", "password": "secret", **changes}
    )


def test_a_ledger_connection_becomes_a_libpq_connection_string() -> None:
    awkward = "it's a \\ pass word"
    settings = connections.ledger_settings(
        ledger(password=awkward, port=6000, extra={"sslmode": "require", "cursor": "dictcursor"})
    )
    parsed = psycopg.conninfo.conninfo_to_dict(settings.conninfo)
    assert parsed == {
        "host": "db",
        "port": "6000",
        "dbname": "kx",
        "user": "kx",
        "password": awkward,
        "sslmode": "require",
        "application_name": "airflow_kafka_exactly",
    }
    assert settings.connection == "my_conn"
    assert awkward not in repr(settings)


def test_what_is_empty_is_left_to_libpq() -> None:
    parsed = psycopg.conninfo.conninfo_to_dict(
        connections.ledger_settings(ledger(login=None, password="")).conninfo
    )
    assert "user" not in parsed
    assert "password" not in parsed


@pytest.mark.parametrize(
    ("host", "port", "hosts"),
    [
        ("zk", None, "zk:2181"),
        ("zk", 2182, "zk:2182"),
        ("zk1:1, zk2 ,zk3:3", None, "zk1:1,zk2:2181,zk3:3"),
        ("[::1],[::1]:5", None, "[::1]:2181,[::1]:5"),
    ],
)
def test_zookeeper_hosts_may_be_one_or_many(host: str, port: int | None, hosts: str) -> None:
    assert connections.election_settings(connection(host=host, port=port)).hosts == hosts


def test_a_zookeeper_session_sets_the_trust_with_it() -> None:
    settings = connections.election_settings(
        connection(host="zk", extra={"root": "/a/b/", "session_timeout_s": "12"})
    )
    assert (settings.root, settings.session_timeout_s, settings.trust_s) == ("/a/b", 12.0, 8.0)


def test_a_channel_connection_reads_its_certificates(tmp_path: Any) -> None:
    for name in ("cert", "key", "ca"):
        (tmp_path / name).write_text(name)
    files = {
        f"tls_{field}_file": str(tmp_path / name)
        for field, name in (("certificate", "cert"), ("key", "key"), ("ca", "ca"))
    }
    settings = connections.channel_settings(
        connection(password=SECRET, extra={"bind": "0.0.0.0", "advertise": "me", "port": 7000, **files})
    )
    assert (settings.bind, settings.advertise, settings.port) == ("0.0.0.0", "me", 7000)
    assert (settings.tls_certificate, settings.tls_key, settings.tls_ca) == (b"cert", b"key", b"ca")
    assert SECRET not in repr(settings)


PROBLEMS = [
    (connections.ledger_settings, ledger(host=""), "PostgreSQL (the ledger)", "host"),
    (connections.ledger_settings, ledger(schema=None), "PostgreSQL (the ledger)", "schema"),
    (
        connections.ledger_settings,
        ledger(extra={"sslmodus": "x"}),
        "PostgreSQL (the ledger)",
        "extra.sslmodus",
    ),
    (connections.ledger_settings, ledger(extra="{no json"), "PostgreSQL (the ledger)", "extra"),
    (
        connections.ledger_settings,
        connection("mysql", host="db", schema="kx"),
        "PostgreSQL (the ledger)",
        "conn_type",
    ),
    (connections.election_settings, connection(), "ZooKeeper", "host"),
    (connections.election_settings, connection(host="zk:2181/path"), "ZooKeeper", "host"),
    (connections.election_settings, connection(host="zk", extra={"root": "x"}), "ZooKeeper", "extra.root"),
    (
        connections.election_settings,
        connection(host="zk", extra={"trust_s": "long"}),
        "ZooKeeper",
        "extra.trust_s",
    ),
    (connections.election_settings, connection(host="zk", extra={"roots": "/x"}), "ZooKeeper", "extra.roots"),
    (connections.channel_settings, connection(password="short"), "the channel", "password"),
    (connections.channel_settings, connection(), "the channel", "password"),
    (
        connections.channel_settings,
        connection(password=SECRET, extra={"port": 99999}),
        "the channel",
        "extra.port",
    ),
    (
        connections.channel_settings,
        connection(password=SECRET, host="0.0.0.0"),
        "the channel",
        "extra.advertise",
    ),
    (
        connections.channel_settings,
        connection(password=SECRET, extra={"tls_key_file": "/nowhere/key"}),
        "the channel",
        "extra.tls_key_file",
    ),
    (connections.kafka_config, connection("kafka", extra={}), "Kafka", "extra.bootstrap.servers"),
    (connections.kafka_config, connection("kafka", extra=[1]), "Kafka", "extra"),
    (connections.kafka_config, connection("http", extra={"bootstrap.servers": "x"}), "Kafka", "conn_type"),
]


@pytest.mark.parametrize(("read", "given", "service", "field"), PROBLEMS)
def test_case_21_a_wrong_connection_names_service_connection_and_field(
    read: Any, given: Any, service: str, field: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(given)
    assert str(raised.value).startswith(f"{service}: connection 'my_conn', field '{field}':")


def test_case_21_no_error_shows_a_secret() -> None:
    with pytest.raises(ConfigurationError) as raised:
        connections.channel_settings(connection(password="hush"))
    assert "hush" not in str(raised.value)
