"""A leader fences only after unbroken contact with the ledger."""

from airflow_kafka_exactly.protocol.fencing import FenceWatch


def test_no_fence_before_the_grace_is_over() -> None:
    watch = FenceWatch(6.0)
    assert not watch.may_fence(0.0)
    for now in range(6):
        watch.answered(float(now))
        assert not watch.may_fence(float(now))
    watch.answered(6.0)
    assert watch.may_fence(6.0)


def test_case_44_an_outage_of_the_ledger_starts_the_wait_again() -> None:
    watch = FenceWatch(6.0)
    for now in range(8):
        watch.answered(float(now))
    watch.lost()
    watch.answered(8.0)
    assert not watch.may_fence(8.0)


def test_a_leader_that_was_frozen_itself_waits_again() -> None:
    watch = FenceWatch(6.0)
    for now in range(8):
        watch.answered(float(now))
    assert watch.may_fence(8.0)
    watch.answered(60.0)  # it does not know what the ledger did meanwhile
    assert not watch.may_fence(60.0)
