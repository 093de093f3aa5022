"""What runs in the triggerer: a member that waits, and a contender for leadership that announces doubts.

Both keep the event loop free: they work in threads of their own, and the loop only awaits a future (cases 19, 20). A triggerer
imports this module in its loop, so nothing but Airflow is imported here: the clients of Kafka, ZooKeeper, gRPC and PostgreSQL
take half a second. A trigger's constructor only assigns, since an error in it would end the whole triggerer.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow_kafka_exactly.triggered import Waiter

log = logging.getLogger(__name__)
T = TypeVar("T")
ANNOUNCE_EVERY_S = 1.0
THREAD_AGAIN_S = 1.0


async def in_a_thread(job: Callable[[], T], name: str) -> T:
    """Await `job` in a daemon thread of its own. Airflow's usual helpers share one thread in the whole process, or threads
    that the process waits for when it ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, failure: BaseException | None) -> None:
        if not done.done():
            if failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(result)  # type: ignore[arg-type] # a result exists where there is no failure

    def run() -> None:
        result, failure = None, None
        try:
            result = job()
        except BaseException as raised:  # noqa: BLE001 - raised again where the result is awaited
            failure = raised
        try:
            loop.call_soon_threadsafe(finish, result, failure)
        except RuntimeError:
            log.debug("%s ended after its event loop", name)

    await _start(threading.Thread(target=run, name=name, daemon=True))
    return await done


async def _start(thread: threading.Thread) -> None:
    """A machine that has no thread left has one again some day: no task fails of it."""
    said = False
    while True:
        try:
            return thread.start()
        except RuntimeError as refused:
            from airflow_kafka_exactly.outages import is_shortage

            if not is_shortage(refused):
                raise
            if not said:
                log.warning("%s waits for a thread: %s", thread.name, refused)
            said = True
        await asyncio.sleep(THREAD_AGAIN_S)


class ConsumeTrigger(BaseTrigger):
    """The operator's member while it is idle: it keeps its place in the group, polls, asks for votes, and wakes the operator
    for records, for released doubts, or at the end. It never claims."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of Airflow
        self.arguments = arguments
        self._stop = threading.Event()
        self._waiter: Waiter | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "airflow_kafka_exactly.triggers.ConsumeTrigger", self.arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        event = await in_a_thread(self._wait, f"kafka-exactly-{self.arguments['slot']}")
        if event is None:
            # It was cancelled, or another process works in this slot for the same task instance, and its event is the one that
            # counts (case 10). An error from here, or an end without an event, would fail the task that both wait for.
            await asyncio.Event().wait()
        yield TriggerEvent(event)

    async def cleanup(self) -> None:
        """Airflow gives this about a second: the thread is only told, and closes its consumer by itself (case 7)."""
        self._stop.set()
        if self._waiter is not None:
            self._waiter.wake()

    def _wait(self) -> dict[str, Any] | None:
        from airflow_kafka_exactly.triggered import Waiter

        self._waiter = Waiter(self.arguments, self._stop)
        return self._waiter.run()


class CoordinatorTrigger(BaseEventTrigger):
    """A contender for leadership, and the announcer of doubts: each event it yields becomes an asset event that starts the
    evidence-check DAG. Whether it leads does not matter for that: announcing is a compare-and-set in the ledger."""

    def __init__(self, announce_every_s: float = ANNOUNCE_EVERY_S) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of Airflow
        self.announce_every_s = announce_every_s
        self._stop = threading.Event()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "airflow_kafka_exactly.triggers.CoordinatorTrigger", {
            "announce_every_s": self.announce_every_s
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        loop, announced = asyncio.get_running_loop(), asyncio.Queue[Any]()

        def hand_over(announcement: Any) -> None:
            loop.call_soon_threadsafe(announced.put_nowait, announcement)

        ended = asyncio.ensure_future(
            in_a_thread(lambda: self._announce(hand_over), "kafka-exactly-announce")
        )
        ended.add_done_callback(lambda _: announced.put_nowait(None))
        while (announcement := await announced.get()) is not None:
            yield TriggerEvent(announcement)
        await ended

    async def cleanup(self) -> None:
        self._stop.set()

    def _announce(self, hand_over: Callable[[Any], None]) -> None:
        from airflow_kafka_exactly.triggered import announce

        announce(self._stop, self.announce_every_s, hand_over)
