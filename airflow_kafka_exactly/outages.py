"""What a trigger waits for instead of failing its task: services that are away, and whatever its process has run out of.

A trigger exists because a worker has read these connections and spoken with these services. Who has just started, and has never
seen them work, fails with the same errors (case 21).
"""

from __future__ import annotations

import errno

from airflow_kafka_exactly.errors import ConnectionMissing, PeerRefused, Unavailable


def passes(failure: BaseException) -> bool:
    """Whether waiting may mend what a trigger met: a service, the keeper of Airflow's connections, a leader that has another
    secret for as long as that is changed everywhere, or the machine. All that the system refuses counts (`OSError`)."""
    return isinstance(failure, Unavailable | ConnectionMissing | PeerRefused | OSError) or is_shortage(
        failure
    )


def is_shortage(failure: BaseException) -> bool:
    """Whether the process had no thread, memory or file left."""
    if isinstance(failure, OSError):
        return failure.errno in _SHORT_OF
    no_thread = isinstance(failure, RuntimeError) and str(failure) == "can't start new thread"
    return no_thread or isinstance(failure, MemoryError)


_SHORT_OF = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.ENOSPC, errno.EDQUOT}
)
