"""Late ballots: what a woken leader answers to those who do not know that there is a newer one."""

from __future__ import annotations

import threading

from airflow_kafka_exactly.errors import KafkaExactlyError
from airflow_kafka_exactly.ports import Channel, MemberLedger
from airflow_kafka_exactly.protocol.votes import Ballot, Hello
from succession.asking import Asker
from succession.plan import CLUSTER

ASKERS = 4
ASK_S = 3.0
"""From the waking on."""
PAUSE_S = 0.01


class LateVoters:
    """Slots that said hello to a leader before it froze. They never look for another one."""

    def __init__(self, ledger: MemberLedger, channel: Channel) -> None:
        self._channel = channel
        self._askers = [Asker(ledger, f"late-{number}") for number in range(ASKERS)]
        self._lock, self._over = threading.Lock(), threading.Event()
        self._threads: list[threading.Thread] = []
        self.reset()

    def reset(self) -> None:
        """Count anew: ballots, votes that came back, and how many of those the ledger let lead to a claim (S4: none)."""
        self.asked = self.answered = self.accepted = 0

    def greet(self, address: str) -> None:
        """Say hello to a healthy leader, so that it knows these slots; also shows that only its epoch can be what is refused."""
        for asker in self._askers:
            link = self._channel.link(address, asker.life)
            link.hello(Hello(asker.life, CLUSTER))
            answer = link.vote(Ballot(asker.life, (asker.part,)))
            if not asker.claim(answer.epoch):
                raise SystemExit(f"the vote of a healthy leader (epoch {answer.epoch}) was refused")
            link.close()

    def ask(self, address: str) -> None:
        """Begin while the leader is frozen: its first work after the waking is to read these ballots."""
        self._over.clear()
        self._threads = [
            threading.Thread(target=self._insist, args=(asker, address), name="late", daemon=True)
            for asker in self._askers
        ]
        for thread in self._threads:
            thread.start()

    def woken(self) -> None:
        """It runs again: ask on for a while, then stop."""
        self._over.wait(ASK_S)
        self._over.set()
        for thread in self._threads:
            thread.join(30.0)

    def claim(self, epoch: int) -> None:
        """Claim with a vote of this epoch, as if it had been given in time and was slow on its way."""
        for asker in self._askers:
            self._count(accepted=asker.claim(epoch))

    def _insist(self, asker: Asker, address: str) -> None:
        while not self._over.wait(PAUSE_S):
            try:
                self._ask(asker, address)
            except KafkaExactlyError:
                continue

    def _ask(self, asker: Asker, address: str) -> None:
        """Without a hello: that one would be refused first."""
        link = self._channel.link(address, asker.life)
        try:
            while not self._over.wait(PAUSE_S):
                self._count(asked=1)
                answer = link.vote(Ballot(asker.life, (asker.part,)))
                self._count(answered=1, accepted=asker.claim(answer.epoch))
        finally:
            link.close()

    def _count(self, asked: int = 0, answered: int = 0, accepted: int = 0) -> None:
        with self._lock:
            self.asked += asked
            self.answered += answered
            self.accepted += accepted
