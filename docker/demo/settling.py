"""The end of the story: nothing open, and Kafka's offsets where the records end."""

from demo.progress import DemoError, wait_for
from demo.scene import Scene

_SETTLE_SECONDS = 240.0
_SAY_EVERY_SECONDS = 5.0


def await_settled(scene: Scene) -> None:
    """Until every frontier and every committed offset is at its partition's end and no doubt or orphan commit is open."""
    said = 0.0

    def settled() -> bool:
        nonlocal said
        pending = pending_in(scene)
        if pending and scene.progress.elapsed_seconds - said >= _SAY_EVERY_SECONDS:
            said = scene.progress.elapsed_seconds
            scene.say(f"{scene.effects.total()} effects; pending: {'; '.join(pending)}")
        return not pending

    try:
        wait_for("everything to settle", settled, _SETTLE_SECONDS, lambda: "; ".join(pending_in(scene)))
    except DemoError as error:
        raise DemoError(f"{error} {scene.describe_members()}") from error


def pending_in(scene: Scene) -> list[str]:
    """What is not settled, in words."""
    ends, committed, rows = scene.topic.ends(), scene.topic.committed(), scene.books.partitions()
    frontiers = {number: row[0] for number, row in rows.items()}
    behind = sum(end - min(end, frontiers.get(number, 0)) for number, end in ends.items())
    uncommitted = [number for number, end in ends.items() if committed.get(number, 0) < end]
    doubts, orphans = scene.books.unclosed_doubts(), scene.books.open_orphans()
    pending = []
    if behind or len(rows) < scene.topic.partitions:
        pending.append(f"{behind} offsets above the frontiers")
    if doubts:
        pending.append("doubts " + ", ".join(f"{n} {state}" for state, n in doubts.items()))
    if orphans:
        pending.append(f"{orphans} open orphan commits")
    if uncommitted and not behind:
        pending.append(f"offset commits of partitions {uncommitted}")
    return pending
