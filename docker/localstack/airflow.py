"""Airflow's own processes, with one configuration: what an installation on one machine runs, and our coordinator."""

import json
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from localstack.airflow_config import airflow_environment
from localstack.ports import LOOPBACK, free_port
from localstack.service import Service, ServiceError

USER = PASSWORD = "admin"
#: Of this environment. Not ``python -m airflow``, which would look in the working directory first.
_PROGRAM = str(Path(sys.executable).with_name("airflow"))
_COMMAND_SECONDS = 300.0
_HTTP_SECONDS = 5.0


class Component(Service):
    """One ``airflow …`` process. Its readiness is what the API server says about it, so that one starts first."""

    ready_seconds = 120.0
    stop_seconds = 30.0
    orphaned_signal = "TERM"  # Airflow's supervisors then end their children

    def __init__(self, airflow: "Airflow", name: str, *arguments: str, health: str = "") -> None:
        super().__init__(name, airflow.home.parent, keep=airflow.keep)
        self._airflow = airflow
        self._arguments = arguments
        self._health = health

    @property
    def address(self) -> str:
        return self._airflow.url

    def command(self) -> list[str]:
        return [_PROGRAM, *self._arguments]

    def environment(self) -> dict[str, str]:
        return self._airflow.environment

    def ready(self) -> bool:
        """Without a word in the API server's health report, running is all that can be seen from outside."""
        if not self._health:
            return self.running
        return self._airflow.health().get(self._health, {}).get("status") == "healthy"


class Airflow:
    """Airflow with its home in ``state/airflow`` and its metadata in ``database``, a conninfo of an empty database."""

    def __init__(
        self, state: Path, *, database: str, dags: Path, connections: Mapping[str, str], keep: bool = False
    ) -> None:
        self.home = state.resolve() / "airflow"
        self.keep = keep
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.environment = airflow_environment(
            home=self.home, database=database, dags=dags, url=self.url, connections=connections
        )
        serve = ("api-server", "--host", LOOPBACK, "--port", str(self.port), "--workers", "1")
        self.api_server = Component(self, "api-server", *serve, health="metadatabase")
        self.scheduler = Component(self, "scheduler", "scheduler", "--skip-serve-logs", health="scheduler")
        self.dag_processor = Component(self, "dag-processor", "dag-processor", health="dag_processor")
        # Logs are read from the folder that all components share; a log server would only take a port on every interface.
        self.triggerers = [
            Component(self, f"triggerer-{number}", "triggerer", "--skip-serve-logs", health="triggerer")
            for number in (1, 2)
        ]
        self.coordinator = Component(self, "coordinator", "kafka-exactly", "coordinator")

    @property
    def services(self) -> list[Service]:
        """In the order in which they start."""
        return [self.api_server, self.scheduler, self.dag_processor, *self.triggerers, self.coordinator]

    @property
    def environment_file(self) -> Path:
        """For a person's shell: ``. FILE`` makes ``airflow`` commands talk to this installation."""
        return self.home / "environment.sh"

    def migrate(self) -> None:
        """Create Airflow's tables and the ledger's, the one user's password, and the file for a person's shell."""
        self.home.mkdir(parents=True, exist_ok=True)
        mine = {k: v for k, v in self.environment.items() if k.startswith("AIRFLOW") or k == "PATH"}
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in mine.items()]
        self.environment_file.touch(mode=0o600)  # it holds passwords
        self.environment_file.write_text("".join(lines))
        (self.home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
        self.run("db", "migrate")
        self.run("kafka-exactly", "migrate")

    def run(self, *arguments: str) -> str:
        """Run an ``airflow`` command to its end; returns what it printed."""
        done = subprocess.run(
            [_PROGRAM, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ServiceError(f"airflow {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}"[-4_000:])
        return done.stdout

    def health(self) -> dict[str, dict[str, str]]:
        """The API server's health report: component to its status; empty while nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/monitor/health", timeout=_HTTP_SECONDS) as answer:
                report: dict[str, dict[str, str]] = json.load(answer)
                return report
        except (OSError, urllib.error.URLError):
            return {}
