"""``python -m localstack up|down|status --state DIR``"""

import argparse
import sys
from pathlib import Path

from localstack import state as state_file
from localstack.stack import Stack


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m localstack", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "status"])
    parser.add_argument("--state", type=Path, required=True, help="folder for data, logs and the list of services")
    given = parser.parse_args(arguments)
    verbs = {"up": _up, "down": _down, "status": _status}
    return verbs[given.verb](given.state)


def _up(state: Path) -> int:
    if any(state_file.alive(entry) for entry in state_file.read(state).values()):
        print(f"services are already running in {state}", file=sys.stderr)
        return 1
    Stack(state, keep=True).up()
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
