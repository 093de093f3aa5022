"""One integer draws a whole run: who is there, what there is to do, how long everything may take, and how much goes wrong."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from airflow_kafka_exactly.settings import FilterSettings, LeaseSettings


class Kind(StrEnum):
    """What the user's function is like."""

    CHECKED = "external, with a truthful check"
    UNCHECKED = "external, without a check: a person rules"
    UNSURE = "external, with a check that cannot tell"
    UNIT = "a batch function, with a truthful check"
    LEDGER = "inside the ledger's transaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Chances for each call of a port, and how often the nemesis acts."""

    lost: float = 0.0
    answer_lost: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    crash: float = 0.0
    freeze: float = 0.0
    nemesis_every_s: float = float("inf")
    focus: str = ""
    """Calls with this in their name fail `focused` times as often: rare meetings need a seed that looks for them."""
    focused: float = 1.0

    @property
    def any(self) -> float:
        return self.lost + self.answer_lost + self.late + self.slow + self.crash + self.freeze


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user chose at the operator, and how else their function fails."""

    until_end: bool = False
    """`until="end"`: the task ends, and its DAG starts it again."""
    vouches: bool = False
    """`on_exception="not_applied"`; a function that is vouched for raises only before its effect."""
    max_attempts: int = 3
    on_undecidable: str = "person"
    killed: float = 0.0
    """The chance that a call ends with what is no `Exception` (`execution_timeout`), before or after its effect."""
    impatient: float = 0.0
    """The chance that a call raises while its effect is under way (a time-out of its client): it arrives all the same."""
    outage_at_s: float = 0.0
    outage_s: float = 0.0
    """So long every call of the function fails before its effect: the target is away."""
    outage_proves: bool = False
    """It fails with `NotApplied` then."""
    outage_grace_s: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    seed: int
    mode: str
    kind: Kind
    slots: int
    coordinators: int
    partitions: int
    records: int
    batch: int
    produce_for_s: float
    gaps: float
    raises: float
    """The chance that the function raises, before or after its effect."""
    proves: float
    """The chance that it raises `NotApplied`."""
    effect_s: float
    in_flight: float
    """The chance that an effect reaches its target only after a while, whatever becomes of the process."""
    flight_s: float
    """How long, at most: below `effect_timeout_s`, and in some plans longer than a lease."""
    session_s: float
    lease: LeaseSettings
    filter: FilterSettings
    skew: float
    act_s: float
    announce_again_s: float
    announce_limit: int
    rates: Rates
    triggers: bool
    recreates: bool
    """The topic is deleted and made anew again and again, not only now and then."""
    prefetch_bytes: int
    window_s: float
    choices: Choices = Choices()

    def __str__(self) -> str:
        lease = self.lease
        chosen = ", ".join(f"{name} {value}" for name, value in asdict(self.choices).items() if value)
        return (
            f"{self.kind} ({chosen}); {self.slots} slots, {self.coordinators} coordinators, {self.partitions} partitions, "
            f"{self.records} records in batches of {self.batch}; lease {lease.lease_s:.1f} s, trusted {lease.trust_s:.1f} s, "
            f"Kafka session {self.session_s:.1f} s; faults in {self.rates.any:.1%} of calls"
            + (f", {self.rates.focused:.0f} times that in {self.rates.focus}" if self.rates.focus else "")
        )


FOCUS = (
    "", "ledger.renew", "ledger.mark", "ledger.claim", "ledger.fence", "ledger.decide", "ledger.effect", "ledger.open",
    "ledger.give_back", "ledger.close_life", "ledger.raise_doubt", "ledger.read_back", "kafka.commit", "kafka.alter",
    "channel.vote", "zookeeper.look", "ledger.load", "ledger.raise_epoch",
)  # fmt: skip


def draw(seed: int, mode: str = "normal") -> Plan:
    """The plan of a seed. In `enumerate` it is a small one, without chance's faults, and the seed only chooses the function."""
    if mode != "enumerate":
        return _chosen(_drawn(seed, mode))
    return replace(
        _drawn(seed, mode),
        recreates=False,
        kind=list(Kind)[seed % len(Kind)],
        slots=2,
        coordinators=2,
        partitions=2,
        records=6,
        batch=3,
        produce_for_s=0.0,
        raises=0.0,
        proves=0.0,
        in_flight=0.0,
        act_s=60.0,
        rates=Rates(),
        prefetch_bytes=10_000,
        window_s=1.0,
        choices=Choices(),
    )


def _chosen(plan: Plan) -> Plan:
    """With what the user chose, from a generator of its own: seeds that were named before keep the rest of their plans. A
    choice about exceptions is worth drawing only where there are some."""
    chance = random.Random(f"choices {plan.seed}")
    external = plan.kind is not Kind.LEDGER
    policies = ("person", "person", "person", "redo", "discard", "dead_letter")
    choices = Choices(
        until_end=chance.random() < 0.3,
        vouches=(vouches := chance.random() < 0.15 and external),
        max_attempts=chance.choice((1, 2, 3, 3, 5)),
        on_undecidable=chance.choice(policies) if external else "person",
        killed=chance.choice((0.0, 0.0, 0.02)),
        impatient=chance.choice((0.0, 0.5)) if external and not vouches else 0.0,
    )
    return _with_outage(replace(plan, choices=choices, raises=max(plan.raises, 0.2 if vouches else 0.0)))


def _with_outage(plan: Plan) -> Plan:
    """From a generator of its own, too. Some are longer than the grace, some start with the first record."""
    chance = random.Random(f"outage {plan.seed}")
    if chance.random() >= 0.25:
        return plan
    outage_s, at_s = chance.choice((3.0, 12.0, 30.0)), chance.choice((0.0, chance.uniform(2.0, 6.0)))
    choices = replace(
        plan.choices,
        outage_at_s=at_s,
        outage_s=outage_s,
        outage_proves=chance.random() < 0.6,
        outage_grace_s=chance.choice((3.0, 20.0)),
    )
    return replace(plan, choices=choices, act_s=max(plan.act_s, at_s + outage_s + 3.0))


def _announcing(seed: int, chance: random.Random) -> tuple[float, int]:
    """After how long a doubt is announced again, and how many at once: few and soon, and whoever is never served starves.
    Two draws that are not used any more: seeds that were named before keep the rest of their plans."""
    chance.uniform(2.0, 6.0)
    chance.random()
    own = random.Random(f"announcer {seed}")
    return own.choice((0.1, 2.0, own.uniform(2.0, 6.0))), own.choice((1, 3, 50))


def _drawn(seed: int, mode: str) -> Plan:
    """It has a generator of its own: what is drawn here does not move what is drawn later."""
    chance = random.Random(f"plan {seed}")
    lease_s = chance.uniform(7.0, 10.0)
    session_s = chance.uniform(6.0, 7.0)
    trust_s = chance.uniform(3.5, min(session_s, lease_s - 1.2) - 0.5)
    rough = chance.random() < 0.85
    long_flight_s = random.Random(f"effect {seed}").choice((2.0, 15.0))
    many = chance.random() < 0.02  # more than a filter holds
    scale = chance.choice((0.3, 1.0, 2.0)) if rough else 0.0
    return Plan(
        seed=seed,
        mode=mode,
        kind=chance.choices(list(Kind), (4, 2, 1, 2, 2))[0],
        slots=chance.choice((1, 2, 2, 3, 3, 4)),
        coordinators=chance.choice((1, 2, 2, 3)),
        partitions=chance.choice((1, 1, 2, 3)),
        records=1500 if many else chance.randint(4, 40),
        batch=200 if many else chance.choice((1, 3, 5, 10, 50)),
        produce_for_s=chance.choice((0.0, 2.0, 8.0)),
        gaps=chance.choice((0.0, 0.2)),
        raises=chance.choice((0.0, 0.0, 0.1, 0.3)),
        proves=chance.choice((0.0, 0.0, 0.1)),
        effect_s=0.0 if many else chance.choice((0.0, 0.01, 0.1, 0.4)),
        in_flight=(in_flight := chance.choice((0.0, 0.3)) * (not many)),
        flight_s=0.75 * (effect_timeout_s := long_flight_s if in_flight else 2.0),
        session_s=session_s,
        lease=LeaseSettings(
            lease_s=lease_s,
            margin_s=lease_s - trust_s,
            renew_every_s=chance.uniform(0.5, trust_s / 2.1),
            effect_timeout_s=effect_timeout_s,
            fence_grace_s=chance.uniform(0.2, 3.0),
        ),
        filter=FilterSettings(capacity=1000, error_rate=chance.choice((0.001, 0.02, 0.1))),
        skew=chance.choice((0.0, 0.02)),
        act_s=chance.uniform(8.0, 25.0),
        announce_again_s=(announcing := _announcing(seed, chance))[0],
        announce_limit=announcing[1],
        rates=Rates(
            lost=0.006 * scale,
            answer_lost=0.006 * scale,
            late=0.004 * scale,
            slow=0.004 * scale,
            crash=0.002 * scale,
            freeze=0.002 * scale,
            nemesis_every_s=chance.choice((2.0, 4.0, 8.0)) if rough else float("inf"),
            focus=chance.choice(FOCUS),
            focused=chance.choice((5.0, 15.0)),
        ),
        triggers=chance.random() < 0.6,
        recreates=rough and chance.random() < 0.1,
        prefetch_bytes=chance.choice((40, 10_000)),
        window_s=chance.choice((0.05, 0.2, 1.0)),
    )
