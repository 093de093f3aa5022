"""``python -m localstack up|down|status --state DIR [--brokers N | --airflow --dags DIR]``"""

import argparse
import sys
from pathlib import Path

from localstack import state as state_file
from localstack.airflow import PASSWORD, USER
from localstack.prerequisites import PrerequisiteMissing
from localstack.service import ServiceError
from localstack.stack import AirflowStack, Stack

_DAGS = Path(__file__).resolve().parents[2] / "dags"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m localstack", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "status"])
    parser.add_argument(
        "--state", type=Path, required=True, help="folder for data, logs and the list of services"
    )
    parser.add_argument(
        "--airflow", action="store_true", help="up: with Airflow's processes and a coordinator"
    )
    parser.add_argument("--dags", type=Path, default=_DAGS, help="up: Airflow's DAGs folder")
    parser.add_argument(
        "--brokers", type=int, default=1, help="up: so many Kafka brokers (without --airflow)"
    )
    given = parser.parse_args(arguments)
    if given.verb == "down":
        return _down(given.state)
    if given.verb == "status":
        return _status(given.state)
    return _up(given.state, given.brokers, given.dags if given.airflow else None)


def _up(state: Path, brokers: int, dags: Path | None) -> int:
    if any(state_file.alive(entry) for entry in state_file.read(state).values()):
        print(f"services are already running in {state}", file=sys.stderr)
        return 1
    try:
        if dags is None:
            Stack(state, brokers=brokers, keep=True).up()
        else:
            stack = AirflowStack(state, dags=dags, keep=True)
            stack.up()
            print(f"Airflow's pages: {stack.airflow.url} (user {USER}, password {PASSWORD})")
    except (ServiceError, PrerequisiteMissing) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _down(state: Path) -> int:
    print(f"{state_file.end_all(state)} processes ended")
    return 0


def _status(state: Path) -> int:
    """Exit code 0 when everything that was started still runs."""
    services = state_file.read(state)
    for name, entry in services.items():
        print(f"{name:20} {'running' if state_file.alive(entry) else 'ended':8} {entry['address']}")
    return 0 if services and all(state_file.alive(entry) for entry in services.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
