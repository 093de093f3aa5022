"""From Airflow connections to Settings: pure, one function a service. Whatever is wrong is named by service, connection and
field before anything is opened (case 21).

    ledger        a `postgres` connection: host, port, login, password, schema (the database's name), libpq options in extra
    ZooKeeper     host `zk1:2181,zk2:2181` (or host and port), extra {"root", "session_timeout_s", "trust_s"}
    the channel   password is the shared secret, extra {"bind", "advertise", "port", "tls_certificate_file", "tls_key_file",
                  "tls_ca_file"}
    Kafka         a `kafka` connection, as the Kafka provider defines it: librdkafka's configuration in extra
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from airflow_kafka_exactly.errors import ConfigurationError
from airflow_kafka_exactly.outages import is_shortage
from airflow_kafka_exactly.settings import ChannelSettings, ElectionSettings, LedgerSettings

LIBPQ_OPTIONS = """
    sslmode sslcert sslkey sslpassword sslrootcert sslcrl sslcrldir sslsni ssl_min_protocol_version
    ssl_max_protocol_version sslnegotiation sslcertmode channel_binding gssencmode krbsrvname gsslib service passfile
    require_auth hostaddr connect_timeout tcp_user_timeout keepalives keepalives_idle keepalives_interval
    keepalives_count application_name options target_session_attrs load_balance_hosts
"""
AIRFLOW_OPTIONS = "cursor"
"""What Airflow's own PostgreSQL hook reads from extra and this package has no use for."""


class ConnectionLike(Protocol):
    """What is read of an Airflow connection, whichever class it is of."""

    conn_id: str
    conn_type: str | None
    host: str | None
    port: int | None
    login: str | None
    password: str | None
    schema: str | None
    extra: str | None


class Source:
    """One connection, read with errors that say where to look."""

    def __init__(self, service: str, connection: ConnectionLike, known: str | None = None) -> None:
        """`known` lists the names that extra may hold; None: whatever the service's client knows."""
        self.service, self.connection = service, connection
        self.extra = self._extra()
        unknown = sorted(self.extra.keys() - set(known.split())) if known is not None else ()
        if unknown and known is not None:
            raise self.problem(
                f"extra.{unknown[0]}", f"is unknown; known are {', '.join(sorted(known.split()))}"
            )

    def _extra(self) -> dict[str, Any]:
        # Airflow itself reads a broken extra as an empty one, which would hide the mistake.
        try:
            extra = json.loads(self.connection.extra or "{}")
        except ValueError as error:
            raise self.problem("extra", f"is not JSON ({error})") from None
        if not isinstance(extra, dict):
            raise self.problem("extra", "must be a JSON object, {...}")
        return extra

    def problem(self, field: str, what: str) -> ConfigurationError:
        """The one form of every error about a connection."""
        return ConfigurationError(
            f"{self.service}: connection {self.connection.conn_id!r}, field {field!r}: {what}"
        )

    def of_type(self, *names: str) -> None:
        if self.connection.conn_type not in names:
            raise self.problem("conn_type", f"is {self.connection.conn_type!r}, must be {names[0]!r}")

    def needs(self, field: str, what: str) -> str:
        value = getattr(self.connection, field)
        if not value:
            raise self.problem(field, f"is empty: {what}")
        return str(value)

    def number(self, name: str, default: float = 0) -> float:
        value = self.extra.get(name, default)
        try:
            return float(str(value))
        except ValueError:
            raise self.problem(f"extra.{name}", f"{value!r} is no number") from None

    def content(self, name: str) -> bytes | None:
        """Of the file that extra names."""
        if not self.extra.get(name):
            return None
        try:
            return Path(str(self.extra[name])).read_bytes()
        except OSError as error:
            if is_shortage(error):
                raise
            raise self.problem(f"extra.{name}", f"cannot be read: {error}") from None


def ledger_settings(connection: ConnectionLike, **options: Any) -> LedgerSettings:
    """`options` are fields of LedgerSettings."""
    source = Source("PostgreSQL (the ledger)", connection, f"{LIBPQ_OPTIONS} {AIRFLOW_OPTIONS}")
    source.of_type("postgres", "postgresql")
    parts = {
        "host": source.needs("host", "name the server of the ledger's database"),
        "port": connection.port or 5432,
        "dbname": source.needs("schema", "name the ledger's database"),
        "user": connection.login,
        "password": connection.password,
        "application_name": "airflow_kafka_exactly",
        **{key: value for key, value in source.extra.items() if key in LIBPQ_OPTIONS.split()},
    }
    return LedgerSettings(connection=connection.conn_id, conninfo=conninfo(parts), **options)


def conninfo(parts: Mapping[str, Any]) -> str:
    """A libpq connection string (PostgreSQL manual, 34.1.1.1); without the empty values, so that libpq's defaults hold."""
    quoted = {
        k: str(v).replace("\\", "\\\\").replace("'", "\\'") for k, v in parts.items() if v not in (None, "")
    }
    return " ".join(f"{key}='{value}'" for key, value in quoted.items())


def election_settings(connection: ConnectionLike) -> ElectionSettings:
    source = Source("ZooKeeper", connection, "root session_timeout_s trust_s connect_timeout_s")
    named = source.needs("host", "name the servers, zk1:2181,zk2:2181")
    if "/" in named:
        raise source.problem("host", f'{named!r} has a path: put it into extra, {{"root": "/..."}}')
    hosts = [host.strip() for host in named.split(",") if host.strip()]
    options: dict[str, Any] = {name: source.number(name) for name in source.extra if name != "root"}
    if "root" in source.extra:
        options["root"] = _root(source)
    if "session_timeout_s" in options:
        options.setdefault("trust_s", options["session_timeout_s"] * 2 / 3)
    return ElectionSettings(
        connection=connection.conn_id,
        hosts=",".join(_with_port(host, connection.port or 2181) for host in hosts),
        **options,
    )


def _with_port(host: str, port: int) -> str:
    has_port = ":" in host.rpartition("]")[2]  # also of an IPv6 address in brackets
    return host if has_port else f"{host}:{port}"


def _root(source: Source) -> str:
    root = source.extra["root"]
    if not isinstance(root, str) or not root.startswith("/") or not root.strip("/"):
        raise source.problem("extra.root", f"{root!r} is no path like '/kafka-exactly'")
    return root.rstrip("/")


def channel_settings(connection: ConnectionLike) -> ChannelSettings:
    source = Source(
        "the channel", connection, "bind advertise port tls_certificate_file tls_key_file tls_ca_file"
    )
    if len(connection.password or "") < 16:
        raise source.problem("password", "is the shared secret and needs 16 characters or more")
    bind = str(source.extra.get("bind") or connection.host or "127.0.0.1")
    advertise = str(source.extra.get("advertise") or "")
    if bind in ("0.0.0.0", "::") and not advertise:  # noqa: S104 -- compared, not bound
        raise source.problem(
            "extra.advertise", "is needed when every address is bound: how do others reach this one?"
        )
    port = source.number("port", connection.port or 0)
    if not 0 <= port < 65536:
        raise source.problem("extra.port", f"{port:.0f} is no port")
    return ChannelSettings(
        connection=connection.conn_id,
        secret=connection.password or "",
        bind=bind,
        advertise=advertise,
        port=int(port),
        tls_certificate=source.content("tls_certificate_file"),
        tls_key=source.content("tls_key_file"),
        tls_ca=source.content("tls_ca_file"),
    )


def kafka_config(connection: ConnectionLike) -> dict[str, Any]:
    """librdkafka's configuration as the connection gives it, not yet judged."""
    source = Source("Kafka", connection)
    source.of_type("kafka")
    if not source.extra.get("bootstrap.servers"):
        raise source.problem("extra.bootstrap.servers", "is missing: name the brokers, host:9092")
    return source.extra
