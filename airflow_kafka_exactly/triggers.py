"""What runs in the triggerer: a member that waits, and a contender for leadership that announces doubts.

Both keep the event loop free: they work in threads of their own, and the loop only awaits a future (cases 19, 20). A trigger's
constructor only assigns, since an error in it would end the whole triggerer; everything is checked in `run`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_kafka_exactly import hooks, wiring
from airflow_kafka_exactly.errors import ConfigurationError, Fenced, KafkaExactlyError, SlotBusy, Unavailable
from airflow_kafka_exactly.protocol.claims import DoubtFacts, LifeKind
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.membership import MemberPorts, Membership
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.runtime.waiting import await_work
from airflow_kafka_exactly.settings import KafkaSettings, MemberSettings, ServiceSettings

log = logging.getLogger(__name__)
T = TypeVar("T")
ANNOUNCE_EVERY_S = 1.0
ANNOUNCE_AGAIN_AFTER_S = 60.0
ANNOUNCE_AT_MOST = 500


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

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done


class ConsumeTrigger(BaseTrigger):
    """The operator's member while it is idle: it keeps its place in the group, polls, asks for votes, and wakes the operator
    for records, for released doubts, or at the end. It never claims."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of Airflow
        self.arguments = arguments
        self._stop = threading.Event()
        self._membership: Membership | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "airflow_kafka_exactly.triggers.ConsumeTrigger", self.arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        a = self.arguments
        event = {"summary": a["summary"], "until": a["until"], "deadline": a["deadline"]}
        try:
            services = await hooks.aservice_settings()
            kafka = await hooks.akafka_settings(
                a["kafka_config_id"],
                a["group_id"],
                a["topics"],
                session_timeout_s=a["session_timeout_s"],
                adopt_offsets=a["adopt_offsets"],
                on_lost_records=a.get("on_lost_records", "fail"),  # a trigger of 0.1.0 names none
            )
            ending = await in_a_thread(lambda: self._wait(services, kafka), f"kafka-exactly-{a['slot']}")
            event["ending"] = str(ending)
        except Stopped:
            return
        except Fenced as fenced:
            # Another process works in this slot now, and its event is the one that counts (case 10). An error from here, or an
            # end without an event, would fail the task that both wait for; a trigger that is not wanted is cancelled.
            log.warning("%s: %s: this copy waits to be cancelled", a["slot"], fenced)
            await asyncio.Event().wait()
        except KafkaExactlyError as error:
            event |= {"error": str(error), "final": isinstance(error, ConfigurationError)}
        yield TriggerEvent(event)

    async def cleanup(self) -> None:
        """Airflow gives this about a second: the thread is only told, and closes its consumer by itself (case 7)."""
        self._stop.set()
        if self._membership is not None:
            self._membership.background.stopping.set()

    def _wait(self, services: ServiceSettings, kafka: KafkaSettings) -> Ending:
        a, outages = self.arguments, 0
        wiring.clusters.resolve_with(hooks.kafka_client_config, hooks.KAFKA.conn_id)
        settings = MemberSettings(
            slot=a["slot"],
            owner=a["owner"],
            kafka=kafka,
            lease=services.lease,
            max_batch_records=a["max_batch_records"],
        )
        with wiring.hosted_contender(services), wiring.member_ports(services, kafka, guarded=False) as ports:
            while True:
                if self._stop.is_set():
                    raise Stopped
                try:
                    ending = self._await_work(ports, settings)
                    if ending is not None:
                        return ending
                except SlotBusy as busy:
                    if a["on_busy"] == "fail":
                        raise
                    log.info("%s", busy)
                    self._stop.wait(min(5.0, max(0.5, busy.lease_left_s)))
                except Unavailable as outage:
                    outages += 1
                    log.warning("%s waits: %s", a["slot"], outage)
                    self._stop.wait(min(10.0, 0.5 * 2 ** min(outages, 5)))

    def _await_work(self, ports: MemberPorts, settings: MemberSettings) -> Ending | None:
        """One life. None: its lease had ended (the machine slept, or the ledger was away), and nobody has opened the slot since,
        so that the next life may be ours too."""
        waiting = Membership(ports, settings, LifeKind.TRIGGER, Summary())
        try:
            with waiting as self._membership:
                if self._stop.is_set():  # `cleanup` came while it opened
                    raise Stopped
                return await_work(waiting, Until.from_dict(self.arguments["until"]), 0.0)
        except Fenced:
            life = waiting.life
            if ports.ledger.current_incarnation(life.group_id, life.slot) != life.incarnation:
                raise
            log.warning("%s: the lease of life %d had ended", life.slot, life.incarnation)
            return None


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
        services = await hooks.aservice_settings()
        wiring.clusters.resolve_with(hooks.kafka_client_config, hooks.KAFKA.conn_id)
        loop, announced = asyncio.get_running_loop(), asyncio.Queue[Sequence[DoubtFacts]]()

        def hand_over(doubts: Sequence[DoubtFacts]) -> None:
            loop.call_soon_threadsafe(announced.put_nowait, doubts)

        ended = asyncio.ensure_future(
            in_a_thread(lambda: self._serve(services, hand_over), "kafka-exactly-announce")
        )
        ended.add_done_callback(lambda _: announced.put_nowait(()))
        while doubts := await announced.get():
            yield TriggerEvent(announcement(doubts))
        await ended

    async def cleanup(self) -> None:
        self._stop.set()

    def _serve(self, services: ServiceSettings, hand_over: Callable[[Sequence[DoubtFacts]], None]) -> None:
        """Contend and announce until told to stop; ends with what cannot be mended by trying again."""
        with wiring.hosted_contender(services), wiring.shared_ledger(services.ledger) as ledgers:
            while not self._stop.wait(self.announce_every_s):
                try:
                    doubts = ledgers.evidence.announce(ANNOUNCE_AT_MOST, ANNOUNCE_AGAIN_AFTER_S)
                except Unavailable as outage:
                    log.warning("no doubts are announced: %s", outage)
                    self._stop.wait(5.0)
                else:
                    if doubts:
                        hand_over(doubts)


def announcement(doubts: Sequence[DoubtFacts]) -> Mapping[str, Any]:
    """An asset event's payload: ids and counts only (payloads would land in Airflow's database and logs)."""
    return {"doubts": [d.doubt_id for d in doubts], "groups": sorted({d.group_id for d in doubts})}
