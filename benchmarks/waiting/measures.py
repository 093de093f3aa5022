"""What a process uses, as its kernel counts it."""

from __future__ import annotations

import contextlib
import os
import resource
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

_ESTABLISHED = "01"


def used() -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a count, no paths
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208 - the same
        "resident_mib": pages * resource.getpagesize() / 2**20,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def connections(services: Mapping[int, str]) -> dict[str, int]:
    """Established connections of this process, by the service at the other end; what is at no known port is its own channel."""
    ours = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            ours.add(str(entry.readlink()))
    found: Counter[str] = Counter()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _ESTABLISHED and f"socket:[{fields[9]}]" in ours:
                found[services.get(int(fields[2].rpartition(":")[2], 16), "other")] += 1
    return dict(found)
