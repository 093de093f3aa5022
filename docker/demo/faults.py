"""Four faults, each aimed at something that really runs, each awaited until it has hit. Each returns what it hit.

The order matters: two workers are needed, so the killed one is awaited before the other is frozen.
"""

import signal

from localstack import Service
from localstack import state as state_file
from localstack.process import descendants, start_time

from demo.books import Busy
from demo.intruder import take_place_of
from demo.progress import DemoError, wait_for
from demo.scene import Scene, guards_of, listener, send

_RETRY_SECONDS = 90.0
_MOVE_SECONDS = 60.0
_WAKE_SECONDS = 60.0
_ELECTION_SECONDS = 60.0
_ORPHAN_SECONDS = 15.0
_INTRUSIONS = 4
_HEARD_BEFORE = "PARTITION_LOST"


def kill_worker(scene: Scene) -> Busy:
    """SIGKILL a worker's process in the middle of a batch; Airflow retries its task, which takes the slot over."""
    hit = scene.busy_worker()
    send([hit.pid], signal.SIGKILL)
    scene.say(f"fault 1: SIGKILL of a worker in the middle of a batch: {hit}")

    def retried() -> str | None:
        life = scene.books.lives().get(hit.slot)
        return (
            f"life {life.incarnation} ({life.kind})" if life and life.incarnation > hit.incarnation else None
        )

    life = wait_for(f"Airflow's retry of {hit.slot}", retried, _RETRY_SECONDS, scene.describe_members)
    scene.say(f"         Airflow retried the task; {life} took slot {hit.slot} over")
    return hit


def freeze_worker(scene: Scene, killed: Busy) -> Busy:
    """SIGSTOP the other worker and its guard until its partitions have moved; then wake both."""
    hit = scene.busy_worker(other_than=killed.slot)
    frozen = [*guards_of(hit.pid), hit.pid]
    owned = [number for number, slot in scene.topic.owners().items() if slot == hit.slot]
    send(frozen, signal.SIGSTOP)
    try:
        scene.say(
            f"fault 2: SIGSTOP of the other worker and of its guard, as a frozen machine would: {hit}; "
            f"guard {', '.join(map(str, frozen[:-1])) or 'none'}; it owns partitions {owned}"
        )

        def moved() -> bool:
            owners = scene.topic.owners()
            return bool(owned) and all(owners.get(number, hit.slot) != hit.slot for number in owned)

        wait_for(
            f"partitions {owned} to move", moved, _MOVE_SECONDS, lambda: f"owners are {scene.topic.owners()}"
        )
        owners = scene.topic.owners()
        scene.say(
            f"         Kafka gave partitions {owned} to {sorted({owners[n] for n in owned})}; waking it up"
        )
    finally:
        send([pid for pid in frozen if start_time(pid)], signal.SIGCONT)
    scene.say(f"         {_woke_up(scene, hit)}")
    return hit


def _woke_up(scene: Scene, hit: Busy) -> str:
    """Woken past its trust window it may start nothing; there are three ends, and which one comes is a matter of moments."""
    left_before = scene.books.lease_left_seconds(hit.slot, hit.incarnation)

    def ended() -> str | None:
        if not start_time(hit.pid):
            guarded = "the trust window ended" in scene.task_logs()
            return "was ended by its guard: an effect was under way" if guarded else "ended"
        life = scene.books.lives().get(hit.slot)
        if not life or life.incarnation != hit.incarnation:
            return "found its life over and stops"
        if scene.books.lease_left_seconds(hit.slot, hit.incarnation) > left_before + 1:
            return "renewed its lease just in time and joins the group again, without what it had in hand"
        return None

    def still() -> str:
        return f"process {hit.pid} runs, its life is {scene.books.life_state(hit.slot, hit.incarnation)}"

    end = wait_for(f"what becomes of process {hit.pid}", ended, _WAKE_SECONDS, still)
    return f"woken past its trust window, process {hit.pid} {end}"


def kill_leader(scene: Scene) -> int:
    """SIGKILL the process that leads; its supervisor (here: we) starts it again. Returns the new epoch."""
    epoch, address = scene.books.leader()
    pid = wait_for("the leader's process", lambda: listener(scene.books.leader()[1]), _ELECTION_SECONDS)
    host = _hosting(scene, pid)
    send([pid], signal.SIGKILL)
    scene.say(
        f"fault 3: SIGKILL of the leader of epoch {epoch} ({address}): process {pid} of {host.name if host else 'a worker'}"
    )

    def elected() -> int | None:
        newer, _ = scene.books.leader()
        return newer if newer > epoch else None

    newer = wait_for("a new leader", elected, _ELECTION_SECONDS, lambda: "nobody has raised the epoch")
    successor = _hosting(scene, listener(scene.books.leader()[1]) or 0)
    scene.say(f"         {successor.name if successor else 'a worker'} leads, epoch {newer}")
    if host is not None:
        host.restart()  # a triggerer whose runner was killed ends by itself; what is left of it goes first
        state_file.write(scene.stack.state, [service for service in scene.stack.services if service.running])
        scene.say(f"         {host.name} was started again, as a process supervisor would")
    return newer


def _hosting(scene: Scene, pid: int) -> Service | None:
    """The service that this process belongs to: a coordinator or a triggerer."""
    airflow = scene.stack.airflow
    for service in (airflow.coordinator, *airflow.triggerers):
        if service.running and pid in (service.pid, *descendants(service.pid)):
            return service
    return None


def refuse_commit(scene: Scene) -> str:
    """Take a running member's place in Kafka for a moment, so that its next offset commit is refused.

    A member that hears of its fencing before that commit is due sends none, which is right and makes an orphan commit as well;
    the demo wants to see Kafka refuse one and tries again. Returns the last reason.
    """
    reason = ""
    for _ in range(_INTRUSIONS):
        hit = scene.busy_worker(committing=True)
        before = scene.books.last_orphan()
        partitions = take_place_of(hit.slot, scene.stack.kafka.address)
        if not partitions:
            continue
        scene.say(
            f"fault 4: another consumer took the place of {hit.slot} in Kafka ({partitions} partitions) and left"
        )

        def refused(after: int = before) -> tuple[int, int, int, str] | None:
            return scene.books.orphan_after(after)

        try:
            number, start, stop, reason = wait_for(
                "an orphan commit", refused, _ORPHAN_SECONDS, scene.describe_members
            )
        except DemoError:
            scene.say("         the member had nothing to commit in that moment; once more")
            continue
        scene.say(
            f"         {reason}: offsets {start} to {stop - 1} of partition {number} became an orphan commit"
        )
        if reason != _HEARD_BEFORE:
            break
    if not reason:
        raise DemoError(
            f"no offset commit was prevented in {_INTRUSIONS} attempts. {scene.describe_members()}"
        )
    return reason
