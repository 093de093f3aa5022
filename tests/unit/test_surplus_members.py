"""More members than partitions: one that got none is idle, and does not keep its worker slot for ever."""

import pytest
from members import Members

from airflow_kafka_exactly.runtime.function import UserFunction
from airflow_kafka_exactly.runtime.until import Ending, Until

FUNCTION = UserFunction(apply=lambda _: None)


@pytest.mark.parametrize(
    ("until", "ending"),
    [
        (Until(to_end=False, defer_when_idle_s=0.5), Ending.IDLE),
        (Until(to_end=False, idle_timeout_s=0.5), Ending.IDLE_TIMEOUT),
    ],
)
def test_a_member_without_a_partition_is_idle(until: Until, ending: Ending) -> None:
    with Members(session_timeout_s=6.0) as world:
        world.produce(10)
        owner = world.start(FUNCTION, Until(to_end=False), "a")
        world.eventually_committed(10)
        surplus = world.run(FUNCTION, until, "b")
        assert surplus.ended() is ending
        assert not surplus.membership.poller.hand.partitions()
        assert owner.ending is None, "the owner of the partition goes on"
        owner.stop()
        owner.join()


def test_a_member_without_a_partition_ends_with_the_group() -> None:
    with Members(session_timeout_s=6.0) as world:
        world.produce(10)
        owner = world.start(FUNCTION, Until(to_end=False), "a")
        world.eventually_committed(10)
        assert world.run(FUNCTION, world.until_end(), "b").ended() is Ending.END
        owner.stop()
        owner.join()
