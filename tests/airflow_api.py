"""Airflow's REST API, as a person's browser or script would use it, and waiting for what it says."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from localstack.airflow import PASSWORD, USER

T = TypeVar("T")


class Api:
    """Airflow's REST API, as its one user."""

    def __init__(self, url: str) -> None:
        self._url, self._token = url, ""
        self._token = self.call("POST", "/auth/token", {"username": USER, "password": PASSWORD})[
            "access_token"
        ]

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def found(self, path: str) -> Any:
        """What is at `path`, or None while nothing is (a DAG file that has not been read yet)."""
        try:
            return self.call("GET", path)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def wait_for(look: Callable[[], T | None], at_most_s: float) -> T:
    ends_at = time.monotonic() + at_most_s
    while not (found := look()):
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.5)
    return found
