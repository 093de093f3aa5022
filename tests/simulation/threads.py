"""`threading`, `queue` and `concurrent.futures` over the kernel: what production modules get instead, while a run lasts.

Only what they use is here. A lock nobody holds costs no step; every wait is in virtual time.
"""

from __future__ import annotations

import contextlib
import queue as real_queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import greenlet
from simulation.kernel import Kernel, Process, Task

from airflow_kafka_exactly.adapters.memory import broker, channel, ledger_state
from airflow_kafka_exactly.runtime import (
    background,
    commits,
    coordinator,
    leading,
    membership,
    polling,
    renewals,
    voting,
)

_kernel: Kernel | None = None


def kernel() -> Kernel:
    assert _kernel is not None, "no simulation runs"
    return _kernel


class _Waiters:
    """Who waits, first come first served."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()

    def wait(self, timeout_s: float | None) -> bool:
        task = greenlet.getcurrent()
        assert isinstance(task, Task)
        self._tasks.append(task)
        woken = kernel().park(timeout_s)
        if not woken:
            with contextlib.suppress(ValueError):
                self._tasks.remove(task)
        return woken

    def wake(self, n: int = 1 << 30) -> None:
        while self._tasks and n > 0:
            kernel().wake(self._tasks.popleft())
            n -= 1


class Lock:
    """Also an `RLock`: reentrant locks of production are never relied on to block their own thread."""

    def __init__(self) -> None:
        self._owner: object = None
        self._depth = 0
        self._waiters = _Waiters()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = greenlet.getcurrent()
        while self._owner is not None and self._owner is not me:
            if not blocking:
                return False
            self._waiters.wait(None if timeout < 0 else timeout)
        self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            self._waiters.wake(1)

    def locked(self) -> bool:
        return self._owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Condition:
    def __init__(self, lock: Lock | None = None) -> None:
        self._lock, self._waiters = lock or Lock(), _Waiters()

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        depth, self._lock._depth = self._lock._depth, 1
        self._lock.release()
        try:
            return self._waiters.wait(timeout)
        finally:  # also when a signal's handler raises in it
            self._lock.acquire()
            self._lock._depth = depth

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        end = None if timeout is None else kernel().now + timeout
        while not (result := predicate()):
            left = None if end is None else end - kernel().now
            if left is not None and left <= 0:
                return predicate()
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        self._waiters.wake(n)

    def notify_all(self) -> None:
        self._waiters.wake()


class Event:
    def __init__(self) -> None:
        self._set, self._waiters = False, _Waiters()

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._waiters.wake()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            self._waiters.wait(timeout)
        return self._set


class Queue:
    def __init__(self, maxsize: int = 0) -> None:
        self._maxsize, self._items = maxsize, deque[Any]()
        self._changed = Condition()

    def put(self, item: Any, timeout: float | None = None) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: not self._full(), timeout):
                raise real_queue.Full
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> Any:
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout):
                raise real_queue.Empty
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def empty(self) -> bool:
        return not self._items

    def _full(self) -> bool:
        return 0 < self._maxsize <= len(self._items)

    def __class_getitem__(cls, _: object) -> type[Queue]:
        return cls


class Thread:
    """In the process of whoever starts it."""

    def __init__(
        self,
        *,
        target: Callable[..., None],
        args: Sequence[Any] = (),
        name: str = "thread",
        daemon: bool = True,
    ) -> None:
        self._target, self._args, self.name, self.daemon = target, args, name, daemon
        self._task: Task | None = None
        self._over = Event()

    def start(self) -> None:
        process = Kernel.process()
        assert process is not None
        self._task = kernel().spawn(process, self.name, self._run)

    def _run(self) -> None:
        try:
            self._target(*self._args)
        finally:
            self._over.set()

    def join(self, timeout: float | None = None) -> None:
        self._over.wait(timeout)

    def is_alive(self) -> bool:
        return not self._over.is_set()


def current_thread() -> object:
    return greenlet.getcurrent()


class Future:
    def __init__(self) -> None:
        self._over, self._result, self._error = Event(), None, None

    def set_result(self, result: Any) -> None:
        self._result = result
        self._over.set()

    def set_exception(self, error: Exception) -> None:
        self._error = error
        self._over.set()

    def done(self) -> bool:
        return self._over.is_set()

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result

    def __class_getitem__(cls, _: object) -> type[Future]:
        return cls


def wait_for_futures(futures: Any, timeout: float | None = None) -> tuple[list[Future], list[Future]]:
    """Lists, in the order they were asked in: sets of objects have another order in each run."""
    asked, end = list(futures), kernel().now + (timeout or 0.0)
    for future in asked:
        future._over.wait(max(0.0, end - kernel().now))
    return [f for f in asked if f.done()], [f for f in asked if not f.done()]


class ThreadPoolExecutor:
    def __init__(self, _: int, thread_name_prefix: str = "") -> None:
        self._prefix = thread_name_prefix

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        future = Future()

        def run() -> None:
            try:
                future.set_result(function(*args))
            except Exception as error:  # noqa: BLE001 - a future holds what was raised
                future.set_exception(error)

        Thread(target=run, name=self._prefix).start()
        return future

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None: ...


@dataclass(slots=True, eq=False)
class _Standby:
    additions: Any = field(default_factory=Queue)
    in_sync: bool = False
    over: Event = field(default_factory=Event)


THREADING = SimpleNamespace(
    Lock=Lock, RLock=Lock, Condition=Condition, Event=Event, Thread=Thread, current_thread=current_thread
)
QUEUE = SimpleNamespace(Queue=Queue, Full=real_queue.Full, Empty=real_queue.Empty)


@contextlib.contextmanager
def substituted(of: Kernel) -> Iterator[None]:
    """Production's waits go through the kernel, and its chance comes from the seed, while this lasts."""
    global _kernel  # noqa: PLW0603 - one run at a time in a process, like the modules that are patched
    changes: list[tuple[Any, str, Any]] = [
        *(
            (module, "threading", THREADING)
            for module in (background, commits, coordinator, leading, polling, renewals, voting)
        ),
        *((module, "threading", THREADING) for module in (broker, channel, ledger_state)),
        (voting, "queue", QUEUE),
        (channel, "queue", QUEUE),
        (channel, "_Standby", _Standby),
        (channel, "Future", Future),
        (channel, "wait", wait_for_futures),
        (channel, "_LOOK_S", 0.25),
        (leading, "ThreadPoolExecutor", ThreadPoolExecutor),
        (leading, "wait_for", wait_for_futures),
        (membership, "os", SimpleNamespace(getpid=lambda: 1)),
        (membership, "socket", SimpleNamespace(gethostname=_here)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    _kernel = of
    try:
        for module, name, new in changes:
            setattr(module, name, new)
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)
        _kernel = None


def _here() -> str:
    process = Kernel.process()
    return process.name if isinstance(process, Process) else "nowhere"
