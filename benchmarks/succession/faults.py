"""One change of leaders for each way to lose one, with the time until the next accepted vote."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from airflow_kafka_exactly.ports import Channel, MemberLedger
from airflow_kafka_exactly.protocol.votes import Ballot, Hello
from succession.asking import open_life
from succession.client import Accepted, Client
from succession.known import KnownIds, count_fresh
from succession.late import LateVoters
from succession.plan import CLUSTER
from succession.ring import Contender, Ring, eventually


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one change of leaders looked like from outside."""

    fault: str
    seconds: float
    """From the signal to the claim that the first vote of a newer epoch led to."""
    sampled: int
    fresh: int
    """Of the sampled ids, which the ledger knew all: called fresh by the new leader's first vote (S6: none)."""
    late_asked: int
    late_answered: int
    late_accepted: int
    """Votes of the old epoch that led to a claim after the new leader's first vote (S4: none)."""


class Faults:
    def __init__(self, ring: Ring, client: Client, late: LateVoters) -> None:
        self._ring, self._client, self._late = ring, client, late

    def kill(self) -> Change:
        leader, epoch = self._steady()
        since = time.monotonic()
        leader.kill()
        first = self._client.first_after(epoch)
        self._late.claim(epoch)
        self._ring.replace(leader)
        return self._change("kill", since, first)

    def freeze(self) -> Change:
        """SIGSTOP, and SIGCONT once the next one votes."""
        leader, epoch = self._steady()
        address = leader.address
        since = time.monotonic()
        leader.freeze()
        first = self._client.first_after(epoch)
        self._late.ask(address)
        self._late.claim(epoch)
        leader.thaw()
        self._late.woken()
        return self._change("freeze", since, first)

    def resign(self) -> Change:
        leader, epoch = self._steady()
        since = time.monotonic()
        leader.resign()
        first = self._client.first_after(epoch)
        self._late.claim(epoch)
        self._ring.replace(leader)
        return self._change("resign", since, first)

    def _steady(self) -> tuple[Contender, int]:
        """All others follow a leader whose votes are accepted."""
        leader = self._ring.settle()
        epoch = leader.seen().epoch
        eventually("the client's votes are the leader's", lambda: self._client.epoch == epoch)
        self._late.greet(leader.address)
        self._late.reset()
        return leader, epoch

    def _change(self, fault: str, since: float, first: Accepted) -> Change:
        return Change(
            fault=fault,
            seconds=first.at - since,
            sampled=first.sampled,
            fresh=first.fresh,
            late_asked=self._late.asked,
            late_answered=self._late.answered,
            late_accepted=self._late.accepted,
        )


def fresh_for_a_lone_newcomer(ring: Ring, ledger: MemberLedger, channel: Channel, known: KnownIds) -> int:
    """How many of *all* known ids are called fresh by the first votes of a leader that has followed nobody: what its filter
    holds can only come from the ledger (S6: none is)."""
    ring.stop()
    alone = ring.added()
    ring.contenders = [alone]
    alone.launch()
    leader = ring.settle()
    auditor = open_life(ledger, "auditor")
    link = channel.link(leader.address, auditor)
    link.hello(Hello(auditor, CLUSTER))
    answers = [link.vote(Ballot(auditor, (part,))) for part in known.every()]
    link.close()
    asked = sum(int(np.size(votes)) for answer in answers for votes in answer.votes)
    if asked != known.count:
        raise SystemExit(f"{asked} votes on {known.count} ids")
    return sum(count_fresh(answer) for answer in answers)
