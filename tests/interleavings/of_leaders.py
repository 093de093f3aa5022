"""What the leader asks of the ledger: taking office, fencing, orphan commits."""

from __future__ import annotations

from interleavings.operations import Party, Steps, operation
from ledger_stage import GROUP

from airflow_kafka_exactly.protocol.claims import OrphanState


@operation()
def take_office(p: Party) -> Steps:
    """S6: raise the epoch, and then load."""
    p.ledger.leader.raise_epoch("another leader")
    yield
    loaded = p.ledger.leader.load(GROUP).ranges
    return sorted({(x.number, o) for x, span in loaded for o in range(span.start, span.stop)})


@operation()
def fence_a(p: Party) -> Steps:
    yield from ()
    return p.ledger.leader.fence(p.scene.epoch, p.scene.a)


@operation()
def sweep(p: Party) -> Steps:
    yield from ()
    p.ledger.leader.sweep_orphans(p.scene.epoch)


@operation()
def read_back(p: Party) -> Steps:
    yield from ()
    return len(p.ledger.leader.read_back(p.scene.epoch, GROUP, dict.fromkeys(reversed(p.scene.parts), 1)))


@operation(lambda scene: bool(scene.orphans))
def close_orphan(p: Party) -> Steps:
    yield from ()
    return p.ledger.leader.close_orphan(p.scene.epoch, p.scene.orphans[0], OrphanState.SUPERSEDED)
