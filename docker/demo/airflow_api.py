"""Airflow through its public REST API, as a person's browser or script would use it."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

_HTTP_SECONDS = 20.0


class AirflowApi:
    """Signed in once; the token outlives the demo."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url
        self._token = ""
        self._token = self._ask("POST", "/auth/token", {"username": user, "password": password})[
            "access_token"
        ]

    def dag_exists(self, dag_id: str) -> bool:
        """Whether the DAG processor has read it; a file that cannot be read shows in ``import_errors``."""
        try:
            self._ask("GET", f"/api/v2/dags/{dag_id}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise
        return True

    def import_errors(self) -> list[str]:
        found = self._ask("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace']}" for error in found]

    def pause(self, dag_id: str) -> None:
        self._ask("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})

    def unpause(self, dag_id: str) -> None:
        self._ask("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def clear(self, task: Mapping[str, Any], *, downstream: bool = False) -> None:
        """Let a task instance (of ``tasks``) run once more; one that runs is ended first."""
        mapped = task["map_index"] >= 0
        body = {
            "dry_run": False,
            "only_failed": False,
            "dag_run_id": task["dag_run_id"],
            "task_ids": [[task["task_id"], task["map_index"]] if mapped else task["task_id"]],
            "include_downstream": downstream,
        }
        self._ask("POST", f"/api/v2/dags/{task['dag_id']}/clearTaskInstances", body)

    def tasks(self, dag_id: str) -> list[dict[str, Any]]:
        """The task instances of all runs of a DAG, the newest run's first."""
        found = self._ask(
            "GET", f"/api/v2/dags/{dag_id}/dagRuns/~/taskInstances?limit=100&order_by=-start_date"
        )
        tasks: list[dict[str, Any]] = found["task_instances"]
        return tasks

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=_HTTP_SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
