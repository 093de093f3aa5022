"""Open files of a triggerer. Waiting members share its process with other people's triggers, which must not run out of them."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import threading
from collections.abc import Iterator

log = logging.getLogger(__name__)

PRICE = 16
"""Descriptors that one waiting member is counted with. Measured (`test_case_19_many_triggers.py`): a bare consumer of
librdkafka has 8 with one broker and 13 with three, a waiting member as many; for a moment two more when it finds records."""
SPARE = 0.25
"""The part of the limit that is left to others."""


class Descriptors:
    """Of one process: who may still open."""

    def __init__(self, price: int = PRICE) -> None:
        self._price, self._lock = price, threading.Lock()
        self._waiting = self._others = 0
        self._raised = False

    @contextlib.contextmanager
    def room(self) -> Iterator[bool]:
        """Whether one more member may open; while the context lasts it is counted, opened or not yet."""
        with self._lock:
            self._raise_limit()
            has_room = self._has_room()
            self._waiting += has_room
        try:
            yield has_room
        finally:
            with self._lock:
                self._waiting -= has_room

    def _has_room(self) -> bool:
        """By what is open and by what is promised: of many that start at once hardly any has opened something yet."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return True
        used = open_now()
        if not self._waiting:
            self._others = used
        used = max(used, self._others + self._waiting * self._price)
        if used + self._price <= limit * (1 - SPARE):
            return True
        log.warning(
            "no room for one more waiting member: %d of at most %d open files are used by this process, of which %d members "
            "wait. Raise the hard limit of open files (ulimit -Hn, LimitNOFILE), or run more triggerers",
            *(used, limit, self._waiting),
        )
        return False

    def _raise_limit(self) -> None:
        """The soft limit is the user's default for programs that cannot have more than 1,024; the hard one is what is allowed."""
        if self._raised:
            return
        self._raised = True
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == hard:
            return
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as refused:
            log.warning("the limit of open files stays at %d: %s", soft, refused)
        else:
            log.info("the limit of open files is raised from %d to %d", soft, hard)


def open_now() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, no paths


of_process = Descriptors()
