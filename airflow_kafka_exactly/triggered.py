"""What our triggers do in their threads. The retry is around the making too: a trigger that starts while a service is away
waits for it, as one that runs does; so does one whose connections Airflow does not find, or that the machine has no thread or
file left for. Only what cannot work at all ends it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from airflow_kafka_exactly import descriptors, hooks, wiring
from airflow_kafka_exactly.errors import ConfigurationError, Fenced, KafkaExactlyError, SlotBusy, Unavailable
from airflow_kafka_exactly.outages import passes
from airflow_kafka_exactly.ports import EvidenceLedger
from airflow_kafka_exactly.protocol.claims import DoubtFacts, LifeKind
from airflow_kafka_exactly.protocol.storable import told
from airflow_kafka_exactly.protocol.summary import Summary
from airflow_kafka_exactly.runtime.background import Stopped
from airflow_kafka_exactly.runtime.evidence import waits
from airflow_kafka_exactly.runtime.membership import MemberPorts, Membership
from airflow_kafka_exactly.runtime.until import Ending, Until
from airflow_kafka_exactly.runtime.waiting import await_work
from airflow_kafka_exactly.settings import MemberSettings

log = logging.getLogger(__name__)
T = TypeVar("T")
ANNOUNCE_AGAIN_AFTER_S = 60.0
ANNOUNCE_AT_MOST = 500
PAUSE_MAX_S = 10.0
WAITING_PREFETCH_BYTES = 1024 * 1024
"""One record is enough to wake a worker; hundreds of triggers wait in one process."""
LOOK_AT_LEAST_EVERY_S = 2.0
LOOK_AT_MOST_EVERY_S = 0.25


class Patience:
    """Pauses that grow with each outage in a row, and end at once when nobody needs the result any more."""

    def __init__(self, who: str, stop: threading.Event) -> None:
        self._who, self._stop, self._in_a_row = who, stop, 0
        self._said = ""

    def outage(self, outage: Exception) -> None:
        self._in_a_row += 1
        if (what := told(outage)) != self._said:  # once: it may be waited for until tomorrow
            self._said = what
            log.warning("%s waits, and tries again and again: %s", self._who, what)
        self.pause(min(PAUSE_MAX_S, 0.5 * 2 ** min(self._in_a_row, 5)))

    def over(self) -> None:
        self._in_a_row, self._said = 0, ""

    def pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped

    def persist(self, ask: Callable[[], T]) -> T:
        """Until there is an answer. Only for questions that may be asked again."""
        while True:
            self.pause(0.0)
            try:
                answer = ask()
            except Exception as failure:
                if not passes(failure):
                    raise
                self.outage(failure)
            else:
                self.over()
                return answer


class Waiter:
    """One `ConsumeTrigger`'s work: one life of its slot after the other, until there is something to tell."""

    def __init__(self, arguments: Mapping[str, Any], stop: threading.Event) -> None:
        self._arguments, self._stop = arguments, stop
        self._patience = Patience(arguments["slot"], stop)
        self._membership: Membership | None = None

    def wake(self) -> None:
        """From any thread, after `stop` was set: a wait inside of the member ends too."""
        if self._membership is not None:
            self._membership.background.stopping.set()

    def run(self) -> dict[str, Any] | None:
        """The trigger's event; None when it has nothing to say, but to wait until it is cancelled."""
        a = self._arguments
        event = {"summary": a["summary"], "until": a["until"], "deadline": a["deadline"]}
        try:
            with descriptors.of_process.room() as has_room:
                event["ending"] = str(self._wait() if has_room else Ending.NO_ROOM)
        except Stopped:
            return None
        except Fenced as fenced:
            log.warning("%s: %s: this copy waits to be cancelled", a["slot"], fenced)
            return None
        except KafkaExactlyError as error:
            event |= {"error": str(error), "final": isinstance(error, ConfigurationError)}
        return event

    def _wait(self) -> Ending:
        with contextlib.ExitStack() as held:
            ports, settings = self._patience.persist(lambda: self._world(held))
            while True:
                self._patience.pause(0.0)
                try:
                    ending = self._await_work(ports, settings)
                except SlotBusy as busy:
                    if self._arguments["on_busy"] == "fail":
                        raise
                    log.info("%s", busy)
                    self._patience.over()
                    self._patience.pause(min(5.0, max(0.5, busy.lease_left_s)))
                except Exception as failure:
                    if not passes(failure):
                        raise
                    self._patience.outage(failure)
                else:
                    if ending is not None:
                        return ending

    def _world(self, held: contextlib.ExitStack) -> tuple[MemberPorts, MemberSettings]:
        a = self._arguments
        services = hooks.service_settings()
        kafka = hooks.kafka_settings(
            a["kafka_config_id"],
            a["group_id"],
            a["topics"],
            session_timeout_s=a["session_timeout_s"],
            adopt_offsets=a["adopt_offsets"],
            prefetch_max_bytes=WAITING_PREFETCH_BYTES,
            on_lost_records=a.get("on_lost_records", "fail"),  # a trigger of 0.1.0 names none
        )
        settings = MemberSettings(
            slot=a["slot"],
            owner=a["owner"],
            dag_id=a.get("dag_id", ""),  # a trigger of 0.1.0 names neither; its worker does
            task_id=a.get("task_id", ""),
            kafka=kafka,
            lease=services.lease,
            max_batch_records=a["max_batch_records"],
        )
        wiring.clusters.resolve_with(hooks.kafka_client_config, hooks.KAFKA.conn_id)
        with contextlib.ExitStack() as opening:
            opening.enter_context(wiring.hosted_contender(services))
            ports = opening.enter_context(wiring.member_ports(services, kafka, guarded=False))
            held.push(opening.pop_all())
        return ports, settings

    def _await_work(self, ports: MemberPorts, settings: MemberSettings) -> Ending | None:
        """One life. None: it is over, and the next one may be ours too."""
        waiting = Membership(ports, settings, LifeKind.TRIGGER, Summary())
        try:
            with waiting as self._membership:
                if self._stop.is_set():  # `cleanup` came while it opened
                    raise Stopped
                self._patience.over()
                return await_work(waiting, Until.from_dict(self._arguments["until"]), 0.0)
        except Fenced:
            if self._has_a_copy(ports, waiting):
                raise
            return None

    def _has_a_copy(self, ports: MemberPorts, waiting: Membership) -> bool:
        """Whether the life that came after ours is of the same task instance, which then needs nothing of us. A life of another
        one (overlapping DAG runs) is waited for like any other holder of the slot; without any, only our lease had ended (the
        machine slept, or the ledger was away)."""
        life, owner = waiting.life, waiting.settings.owner
        newest = self._patience.persist(lambda: ports.ledger.current_incarnation(life.group_id, life.slot))
        if newest == life.incarnation:
            log.warning("%s: the lease of life %d had ended", life.slot, life.incarnation)
            return False
        holder = self._patience.persist(lambda: ports.ledger.last_owner(life.group_id, life.slot))
        if holder != owner:
            log.warning("%s: taken over by %s, which is waited for", life.slot, holder)
        return holder == owner


def announce(stop: threading.Event, every_s: float, hand_over: Callable[[Mapping[str, Any]], None]) -> None:
    """A `CoordinatorTrigger`'s work: contend and announce until told to stop. What cannot work from the start ends it. Later
    nothing does: Airflow would not start another one, and nobody would ever be asked about a doubt again (L1)."""
    patience = Patience("the announcer of doubts", stop)
    with contextlib.ExitStack() as held, contextlib.suppress(Stopped):
        ledgers = patience.persist(lambda: _contend(held))
        while True:
            patience.pause(every_s)
            try:
                doubts = ledgers.evidence.announce(ANNOUNCE_AT_MOST, ANNOUNCE_AGAIN_AFTER_S)
            except Unavailable as outage:
                patience.outage(outage)
                continue
            except Exception as error:
                log.exception("announcing doubts failed and goes on")
                patience.outage(error)
                continue
            patience.over()
            if doubts:
                hand_over(announcement(doubts))


def _contend(held: contextlib.ExitStack) -> Any:
    services = hooks.service_settings()
    wiring.clusters.resolve_with(hooks.kafka_client_config, hooks.KAFKA.conn_id)
    with contextlib.ExitStack() as opening:
        opening.enter_context(wiring.hosted_contender(services))
        ledgers = opening.enter_context(wiring.shared_ledger(services.ledger))
        held.push(opening.pop_all())
    return ledgers


def announcement(doubts: Sequence[DoubtFacts]) -> Mapping[str, Any]:
    """An asset event's payload: ids and counts only (payloads would land in Airflow's database and logs)."""
    return {"doubts": [d.doubt_id for d in doubts], "groups": sorted({d.group_id for d in doubts})}


def await_ripeness(doubts: Sequence[int], wait_at_most_s: float, stop: threading.Event) -> dict[str, Any]:
    """An `EvidenceTrigger`'s event."""
    event: dict[str, Any] = {"doubts": list(doubts)}
    patience = Patience("evidence", stop)
    try:
        with contextlib.ExitStack() as held:
            ledgers = patience.persist(
                lambda: held.enter_context(wiring.shared_ledger(hooks.ledger_settings()))
            )
            event["waiting"] = wait_until_ripe(ledgers.evidence, doubts, wait_at_most_s, stop)
    except Stopped:
        event["waiting"] = {}
    except KafkaExactlyError as error:
        event |= {"error": str(error), "final": isinstance(error, ConfigurationError)}
    return event


def wait_until_ripe(
    ledger: EvidenceLedger, doubts: Sequence[int], wait_at_most_s: float, stop: threading.Event
) -> dict[str, str]:
    """Block until some doubt does not wait (any more), or the time is up, or told to stop; returns the ones that still wait, and
    why."""
    ends_at, waiting = time.monotonic() + wait_at_most_s, {}
    while True:
        pause_s = LOOK_AT_LEAST_EVERY_S
        try:
            waiting = waits(ledger, doubts)
        except Unavailable as outage:
            log.warning("evidence waits: %s", outage)
        else:
            if len(waiting) < len(doubts):
                break
            known = [w.for_s for w in waiting.values() if w.for_s is not None]
            pause_s = min([LOOK_AT_LEAST_EVERY_S, *known])
        left_s = ends_at - time.monotonic()
        if left_s <= 0 or stop.wait(min(max(pause_s, LOOK_AT_MOST_EVERY_S), left_s)):
            break
    return {str(doubt_id): wait.why for doubt_id, wait in waiting.items()}
