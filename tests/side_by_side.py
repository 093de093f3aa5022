"""How `make test JOBS=2` shares the suite out: whole files, in their order, to processes that have services of their own.

Much of the suite's time is waiting, for sessions, leases and time-outs that are the product's own. The files of `tests/airflow`
stay together in one process: some share Airflow's processes, and two Airflows at once are too much for a small machine.
"""

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = "tests/airflow/"


class WholeFiles(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER if nodeid.startswith(TOGETHER) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> WholeFiles:
    return WholeFiles(config, log)
