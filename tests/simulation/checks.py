"""The rules, asserted from outside: a naive model over the log of effects and the ledger's tables, looked at after every write.

S1  no record has its effect twice, and nobody makes one whose claim is not open
S2  neither the frontier nor Kafka's offset passes a record that is neither settled nor a durable doubt
S3  an effect is made only under a written `started` mark of an open claim
S4  what an old epoch, an old incarnation or a fenced claim wrote was refused
S5  claims do not overlap, and nothing is granted that is settled, doubted, or has had its effect
S6  a vote is given only by a filter that holds everything the ledger has
S7  a verdict is true, and not the ledger's own where only a check or a person can know (`verdicts.py`)
S8  what the ledger knows of Kafka's offset is never above it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from simulation.effects import Effect, Key, Target, key_of
from simulation.kernel import Process
from simulation.verdicts import Verdicts

from airflow_kafka_exactly.adapters.memory.ledger import MemoryLedger
from airflow_kafka_exactly.adapters.memory.ledger_state import PlaceRow
from airflow_kafka_exactly.protocol.claims import DoubtState
from airflow_kafka_exactly.protocol.identity import offset_digests
from airflow_kafka_exactly.protocol.record import FencingToken, OffsetRange, Partition, RawRecord

Marks = dict[int, tuple[int, int]]
CLAIMING = {"ledger.claim", "ledger.claim_released"}
LIFE_GUARDED = {"ledger.mark", "ledger.raise_doubt", "ledger.bury"}
LEADING = {"ledger.fence", "ledger.sweep_orphans", "ledger.read_back", "ledger.close_orphan"}


class Violation(Exception):
    """A rule was broken. Its text begins with the rule."""


class Checks:
    def __init__(self, ledger: MemoryLedger, target: Target, broker: Any, verdicts: Verdicts) -> None:
        self._ledger, self._target, self._broker, self.verdicts = ledger, target, broker, verdicts
        verdicts.violate = verdicts.patience.violate = self.violate
        self._state = ledger.state
        self._frontiers: dict[tuple[str, int], int] = {}
        self._versions: dict[int, int] = {}
        self._held: dict[str, Any] = {}
        self._granted: set[int] = set()
        self._leases: dict[Any, float] = {}
        """Until when each life was promised not to be fenced, as its own questions were answered."""
        self._life_of: dict[str, Any] = {}
        self._events = 0
        self._raised: dict[str, int] = {}
        self._loaded: dict[tuple[str, str], int] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self._backward: set[tuple[str, int]] = set()
        target.on_send, target.on_effect = self.sending, self.happened
        self.found: list[str] = []

    def forget(self) -> None:
        """The ledger has been restored from an older backup: what is known of its tables is not true any more."""
        self._frontiers.clear()
        self._versions.clear()
        self._granted.clear()

    def violate(self, text: str) -> None:
        if not self.found:
            self.found.append(text)
        raise Violation(text)

    # -- effects -------------------------------------------------------------------------------------------------------

    def sending(self, process: Process, key: Key, token: FencingToken) -> None:
        found = self._claim(token.claim_id)
        if found is None:
            self.violate(
                f"S1: {process} makes the effect of {_say(key)} under claim {token.claim_id}, which is over"
            )
        claim, life = found
        if life.over:
            self.violate(f"S1: {process} makes the effect of {_say(key)} after its life was {life.state}")
        if self._state.clock.now() > self._leases.get(life.life, 0.0):
            self.violate(f"S1: {process} makes the effect of {_say(key)} after its lease")
        if not claim.started > key[2] >= claim.start:
            self.violate(f"S3: {process} makes the effect of {_say(key)}; started is {claim.started}")
        if claim.applied > key[2]:
            self.violate(
                f"S3: {process} makes the effect of {_say(key)} after its applied mark {claim.applied}"
            )

    def trusting(self, process: Process, ends_at: float) -> None:
        """The trust window (and the guard's slack) ends before the lease that the ledger has promised, by any clock."""
        life = self._life_of.get(process.name)
        over_s = ends_at / process.rate - self._leases.get(life, float("inf"))
        if over_s > 0:
            self.violate(f"S1: {process} trusts itself {over_s:.2f} s longer than its lease")

    def happened(self, effect: Effect) -> None:
        if self._target.count[effect.key] > 1:
            by = [f"{e.process} at {e.at:.2f}" for e in self._target.log if e.key == effect.key]
            self.violate(f"S1: {_say(effect.key)} had its effect twice: {', '.join(by)}")

    def _claim(self, claim_id: int) -> Any:
        for place in self._state.places.values():
            for claim in place.claims:
                if claim.claim_id == claim_id and not claim.settled:
                    return claim, claim.life
        return None

    # -- before and after each call of the ledger ----------------------------------------------------------------------

    def before(self, process: Process, what: str, args: tuple[Any, ...], positions: Any) -> None:
        if what == "kafka.commit":
            self.committing(process, args[0], positions)
        elif what in CLAIMING:
            asked = args[0]
            life, epoch, step = (asked.life, asked.epoch, asked.step) if what == "ledger.claim" else args[:3]
            row = self._state.lives.get(life)
            again = row is not None and step <= row.step
            self._held[process.name] = (
                again or epoch == self._state.epoch,
                row is not None and row.state == "current",
                self._state.newest_claim if again else None,
            )
        elif what in LIFE_GUARDED:
            row = self._state.lives.get(args[0])
            over = row is None or row.over
            self._held[process.name] = (over, self._marks_of(args[0]))
        elif what in LEADING:
            left = self._leases.get(args[1], 0.0) - self._state.clock.now() if what == "ledger.fence" else 0.0
            self._held[process.name] = (args[0] == self._state.epoch, left)
        elif what == "ledger.decide":
            doubt = self._state.doubt(args[0].doubt_id)
            self._held[process.name] = (doubt.version, doubt.kind) if doubt is not None else (None, None)

    def after(self, process: Process, what: str, args: tuple[Any, ...], result: Any) -> None:
        held = self._held.pop(process.name, None)
        self._remember(process, what, args, result)
        if what in CLAIMING:
            self._claimed(process, what, held, result)
        elif what in LIFE_GUARDED and held is not None:
            self._marked(process, what, held, self._marks_of(args[0]))
            if what == "ledger.bury":
                self.verdicts.buried(process, args[1], self._log_of(args[1].partition))
            if what != "ledger.mark":
                self.verdicts.cut(process, args[1].partition, args[2])
        elif what in LEADING:
            self._led(process, what, held, result)
            if what == "ledger.read_back":
                self._read_back(process, *args[1:])
        elif what == "ledger.decide" and result:
            self.verdicts.decided(args[0], held)
        elif what == "ledger.effect_commit":
            self._target.happen([statement[1][0] for statement in result.executed], process)
        self.look()

    def _remember(self, process: Process, what: str, args: tuple[Any, ...], result: Any) -> None:
        """Promises, and the order of a leader's questions."""
        self._events += 1
        if what == "ledger.raise_epoch":
            self._raised[process.name] = self._events
        elif what == "ledger.load":
            self._loaded[process.name, args[0]] = self._events
        elif what == "ledger.open_life":
            self._leases[result] = self._state.clock.now() + args[0].lease_s
            self._life_of[process.name] = result
        elif what == "ledger.renew":
            self._leases[args[0]] = self._state.clock.now() + args[1]

    def _marks_of(self, life: Any) -> Marks:
        places = self._state.places.values()
        return {c.claim_id: (c.started, c.applied) for p in places for c in p.claims if c.life.life == life}

    def _marked(self, process: Process, what: str, held: tuple[bool, Marks], now: Marks) -> None:
        over, before = held
        if over and now != before:
            self.violate(f"S4: {what} of {process} was accepted after its life was over")
        for claim_id, (started, applied) in before.items():
            new = now.get(claim_id, (started, applied))
            if what == "ledger.mark" and (new[0] < started or new[1] < applied):
                self.violate(
                    f"S4: a mark of {process} lowered claim {claim_id} from {started, applied} to {new}"
                )

    def _claimed(self, process: Process, what: str, held: Any, result: Any) -> None:
        granted = result.granted if what == "ledger.claim" else [redo.claim for redo in result]
        if not granted and what != "ledger.claim":
            return
        epoch_ok, life_ok, newest = held
        if newest is not None and any(claim.claim_id > newest for claim in granted):
            self.violate(f"L1: {what} of {process} was granted anew under a number that was answered before")
        if not epoch_ok:
            self.violate(f"S4: {what} of {process} was granted with the votes of an old epoch")
        if not life_ok:
            self.violate(f"S4: {what} of {process} was granted to a life that is not current")
        for claim in granted:
            if claim.claim_id in self._granted:
                continue  # asked again by the same attempt
            self._granted.add(claim.claim_id)
            for offset in range(claim.range.start, claim.range.stop):
                key = key_of(claim.partition, offset)
                if self._target.count[key] and key not in self._target.unique:
                    self.violate(
                        f"S5: claim {claim.claim_id} of {process} grants {claim.partition} {offset}, whose effect happened"
                    )

    def _read_back(self, process: Process, group_id: str, offsets: Any) -> None:
        for partition, offset in offsets.items():
            place = self._state.place(group_id, partition)
            if place is not None and place.committed != offset:
                self.violate(
                    f"S8: {process} read back {offset} of {partition}, and {place.committed} counts as known"
                )

    def _led(self, process: Process, what: str, held: tuple[bool, float], result: Any) -> None:
        epoch_ok, lease_left = held
        if not epoch_ok:
            self.violate(f"S4: {what} of {process} was accepted from an old epoch")
        if what == "ledger.fence" and result and lease_left > 0:
            self.violate(f"S1: {process} fenced a life whose lease had {lease_left:.2f} s left")

    # -- after every write ---------------------------------------------------------------------------------------------

    def look(self) -> None:
        for place in self._state.places.values():
            self._overlaps(place)
            key = (place.partition.topic_id, place.partition.number)
            before = self._frontiers.get(key)
            if before != place.frontier:
                self._frontiers[key] = place.frontier
                self._passed(place, before or 0, place.frontier, "the frontier")
            for doubt in place.doubts:
                if self._versions.get(doubt.doubt_id) != doubt.version:
                    self._versions[doubt.doubt_id] = doubt.version
                    if doubt.closed:
                        self.verdicts.closed(doubt, self._log(place))
            self._known(place)

    def _known(self, place: PlaceRow) -> None:
        """Between an offset that went backward (a late commit) and the next read-back the ledger cannot know better."""
        key = (place.partition.topic_id, place.partition.number)
        found = self._broker.group(place.group_id).offsets.get(
            (place.partition.topic, place.partition.number)
        )
        if found is None or found.topic_id != place.partition.topic_id:
            return
        if found.offset >= self._offsets.get(key, 0):
            self._backward.discard(key)
        if place.committed > found.offset and key not in self._backward:
            self.violate(f"S8: {place.partition}: known {place.committed}, Kafka has {found.offset}")

    def _overlaps(self, place: PlaceRow) -> None:
        stop = -1
        for claim in sorted(place.claims, key=lambda c: c.start):
            if claim.start < stop:
                self.violate(f"S5: claims of {place.partition} overlap at {claim.start}")
            stop = claim.stop
        doubts = sorted((d for d in place.doubts if not d.closed), key=lambda d: d.start)
        stop = -1
        for doubt in doubts:
            if doubt.start < stop:
                self.violate(f"S5: doubts of {place.partition} overlap at {doubt.start}")
            stop = doubt.stop

    def _passed(self, place: PlaceRow, start: int, stop: int, what: str) -> None:
        """Each record of the range is settled, by the log of effects, or a durable doubt."""
        log = self._log(place)
        if log is None:
            return
        buried = {letter.record.offset for letter in place.letters}
        for record in log.records:
            if not start <= record.offset < stop or record.offset in buried:
                continue
            key = key_of(place.partition, record.offset)
            if self._target.count[key] or self.verdicts.excused(key):
                continue
            doubts = [d for d in place.doubts if d.start <= record.offset < d.stop and not d.closed]
            if not any(record.offset in d.records for d in doubts):
                self.violate(
                    f"S2: {what} of {place.partition} passed {record.offset}, neither settled nor a durable doubt"
                )

    def _log(self, place: PlaceRow) -> Any:
        return self._log_of(place.partition)

    def _log_of(self, partition: Partition) -> Any:
        topic = self._broker._topics.get(partition.topic)
        if topic is None or topic.topic_id != partition.topic_id:
            return None
        return topic.logs[partition.number]

    def ended(self, process: Process, ends: Mapping[Partition, int]) -> None:
        """Of a member with `until="end"`: the group has reached what was there when its task began."""
        for partition, end in ends.items():
            topic = self._broker._topics.get(partition.topic)
            if topic is None or topic.topic_id != partition.topic_id:
                continue
            frontier = self._frontiers.get((partition.topic_id, partition.number), 0)
            if frontier < end:
                self.violate(f"L2: {process} ends at the end; {partition} is at {frontier} of {end}")

    def committing(self, process: Process, offsets: Any, positions: Any) -> None:
        """Case 29: no offset of a partition leaves a process that has given it away."""
        for partition in offsets:
            if partition not in positions:
                self.violate(f"S8: {process} commits an offset of {partition}, which it has given away")

    def committed(self, group_id: str) -> None:
        """Kafka's offsets have changed."""
        for place in self._state.group_places(group_id):
            found = self._broker.group(group_id).offsets.get((place.partition.topic, place.partition.number))
            if found is None or found.topic_id != place.partition.topic_id:
                continue
            key = (place.partition.topic_id, place.partition.number)
            if found.offset < self._offsets.get(key, 0):
                self._backward.add(key)
            self._offsets[key] = max(found.offset, self._offsets.get(key, 0))
            self._passed(place, 0, found.offset, "Kafka's offset")
            if found.offset > place.frontier:
                self.violate(
                    f"S2: the offset {found.offset} of {place.partition} is above the frontier {place.frontier}"
                )

    # -- votes ---------------------------------------------------------------------------------------------------------

    def led(self, election: Any, contenders: list[Any]) -> None:
        """A vote leaves only the first contender: trust ends before a session can (case 46)."""
        if contenders[:1] != [election]:
            self.violate(f"S6: {election.process} voted after its session was over")

    def voted(self, process: Process, leading: Any, group_id: str, epoch: int) -> None:
        """S6, when a leader answers: only what its own epoch can have claimed counts."""
        if epoch != self._state.epoch or leading is None:
            return
        if self._loaded.get((process.name, group_id), 0) < self._raised.get(process.name, 0):
            self.violate(
                f"S6: {process} votes in epoch {epoch} and has not loaded {group_id} since it raised it"
            )
        known, missing, heard = self._ledger.leader.load(group_id), [], leading.desks[group_id].filter
        for partition, span in known.ranges:
            offsets = np.array([r.offset for r in self._records(group_id, partition, span)], dtype=np.int64)
            if not heard.test(offset_digests(known.cluster_id, partition, offsets)).all():
                missing.append(f"{partition}{span}")
        if missing:
            self.violate(f"S6: a vote of epoch {epoch} was given by a filter without {', '.join(missing)}")

    def _records(self, group_id: str, partition: Partition, span: OffsetRange) -> list[RawRecord]:
        """Offsets without a record have no id that anybody asks about."""
        place = self._state.place(group_id, partition)
        log = self._log(place) if place is not None else None
        return [r for r in log.records if r.offset in span] if log is not None else []


def _say(key: Key) -> str:
    return f"{key[0]}[{key[1]}] {key[2]}"


assert DoubtState.OPEN == "open", "states are compared with their names above"
