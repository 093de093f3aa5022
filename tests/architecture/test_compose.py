"""The Compose file, compared with what the local stack really starts: no Docker engine ran it."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from localstack import AirflowStack, kafka, postgres, zookeeper
from localstack.airflow import PASSWORD, USER, Component
from localstack.airflow_config import FIXED
from localstack.connections import EFFECTS, LEDGER, METADATA
from localstack.prerequisites import POSTGRES_AT_LEAST

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
SCRIPTS = Path(sysconfig.get_path("scripts"))
# The host of each service in the Compose network, and its port there.
PLACES = {"kafka": 9092, "zookeeper": 2181, "postgres": 5432, "api-server": 8080}


@pytest.fixture
def stack(tmp_path: Path) -> AirflowStack:
    """The local stack as it would be started; nothing runs."""
    return AirflowStack(tmp_path, dags=ROOT / "dags")


def components(stack: AirflowStack) -> dict[str, Component]:
    return {service.name: service for service in stack.services if isinstance(service, Component)}


def test_it_follows_the_compose_specification() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(DOCKER / "compose.yaml"))


@pytest.mark.parametrize("dockerfile", sorted(DOCKER.glob("*Dockerfile*")), ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    run("hadolint", str(dockerfile))


def test_it_has_exactly_the_services_of_the_local_stack(stack: AirflowStack) -> None:
    assert set(SERVICES) - {"migrate"} == {service.name for service in stack.services}


def test_every_long_running_service_says_when_it_is_healthy() -> None:
    assert [name for name, service in SERVICES.items() if "healthcheck" not in service] == ["migrate"]


def test_images_have_the_tested_versions() -> None:
    versions = versions_of_the_pom()
    airflow = re.search(r"^apache-airflow==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert airflow is not None
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{versions['kafka_2.13']}"
    assert SERVICES["zookeeper"]["image"] == f"zookeeper:{versions['zookeeper']}"
    assert SERVICES["postgres"]["image"] == f"postgres:{POSTGRES_AT_LEAST}"
    dockerfile = (DOCKER / "airflow.Dockerfile").read_text()
    assert f"FROM apache/airflow:{airflow[1]}-python3.12\n" in dockerfile
    assert f"apache-airflow=={airflow[1]} " in dockerfile


def test_airflow_processes_are_started_with_the_same_words(stack: AirflowStack) -> None:
    for name, component in components(stack).items():
        local = component.command()[1:]
        assert without_place(SERVICES[name]["command"]) == without_place(local), name


def test_airflow_has_the_same_configuration(stack: AirflowStack) -> None:
    for name in components(stack):
        ours, theirs = stack.airflow.environment, SERVICES[name]["environment"]
        settings = {key for key in ours if key.startswith("AIRFLOW__")}
        assert {key for key in theirs if key.startswith("AIRFLOW__")} == settings, name
        assert {key: theirs[f"AIRFLOW__{key}"] for key in FIXED} == FIXED, name


def test_every_container_that_hosts_a_member_or_a_contender_has_all_connections(stack: AirflowStack) -> None:
    ids = {key for key in stack.airflow.environment if key.startswith("AIRFLOW_CONN_")}
    for name in ("scheduler", "triggerer-1", "triggerer-2", "coordinator"):
        environment = SERVICES[name]["environment"]
        assert {key for key in environment if key.startswith("AIRFLOW_CONN_")} == ids, name
        for key in ids:
            assert moved(json.loads(stack.airflow.environment[key]), name) == json.loads(environment[key]), (
                key
            )


def test_kafka_has_the_same_settings() -> None:
    alone = kafka.PROPERTIES
    for name, value in {"number": "1", "brokers": "1", "roles": "broker,controller"}.items():
        alone = alone.replace(f"{{{name}}}", value)
    ours = dict(line.split("=", 1) for line in alone.splitlines() if line and not line.startswith("#"))
    environment = SERVICES["kafka"]["environment"]
    for key, value in ours.items():
        theirs = environment[f"KAFKA_{key.upper().replace('.', '_')}"]
        if "{" not in value and "listener" not in key:  # addresses differ, and Compose has one listener more
            assert theirs == value, key


def test_zookeeper_has_the_same_settings() -> None:
    ours = dict(line.split("=", 1) for line in zookeeper.CONFIGURATION.splitlines())
    theirs = {
        "tickTime": "ZOO_TICK_TIME",
        "initLimit": "ZOO_INIT_LIMIT",
        "syncLimit": "ZOO_SYNC_LIMIT",
        "maxClientCnxns": "ZOO_MAX_CLIENT_CNXNS",
        "admin.enableServer": "ZOO_ADMINSERVER_ENABLED",
        "4lw.commands.whitelist": "ZOO_4LW_COMMANDS_WHITELIST",
    }
    environment = SERVICES["zookeeper"]["environment"]
    assert {key: environment[name] for key, name in theirs.items()} == {key: ours[key] for key in theirs}


def test_postgres_has_the_same_limits_user_and_databases_but_is_durable() -> None:
    command = SERVICES["postgres"]["command"]
    for name in ("max_connections", "shared_buffers"):
        assert f"{name}={postgres.SETTINGS[name]}" in command
    assert "fsync" not in " ".join(command)
    environment = SERVICES["postgres"]["environment"]
    assert environment["POSTGRES_USER"] == postgres.USER
    assert environment["POSTGRES_PASSWORD"] == postgres.PASSWORD
    created = re.findall(r"CREATE DATABASE (\w+);", COMPOSE["configs"]["databases"]["content"])
    assert {environment["POSTGRES_DB"], *created} == {METADATA, LEDGER, EFFECTS}


def test_the_user_is_the_same() -> None:
    assert f"'{json.dumps({USER: PASSWORD})}'" in (DOCKER / "airflow.Dockerfile").read_text()


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def versions_of_the_pom() -> dict[str, str]:
    name = "{http://maven.apache.org/POM/4.0.0}"
    found = ET.parse(DOCKER / "pom.xml").iter(f"{name}dependency")
    return {entry.findtext(f"{name}artifactId", ""): entry.findtext(f"{name}version", "") for entry in found}


def without_place(words: list[str]) -> list[str]:
    """A command without the host and the port it listens on."""
    hidden = {index + 1 for index, word in enumerate(words) if word in {"--host", "--port"}}
    return [word for index, word in enumerate(words) if index not in hidden]


def moved(connection: dict[str, object], container: str) -> dict[str, object]:
    """A connection of the local stack as it must be in the Compose network."""
    extra = dict(connection.get("extra") or {})
    if connection["conn_type"] == "kafka":
        return connection | {"extra": extra | {"bootstrap.servers": f"kafka:{PLACES['kafka']}"}}
    if connection["conn_type"] == "postgres":
        return connection | {"host": "postgres", "port": PLACES["postgres"]}
    if "password" in connection:  # the channel: bound everywhere, reached by the container's name
        return connection | {"host": "0.0.0.0", "extra": extra | {"advertise": container}}
    return connection | {"host": "zookeeper", "port": PLACES["zookeeper"]}


def run(program: str, *arguments: str) -> None:
    done = subprocess.run([SCRIPTS / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
