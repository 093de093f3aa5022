"""Where our tasks end: our errors as Airflow's, and its time-out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time.timeout import timeout

from airflow_kafka_exactly.errors import ConfigurationError, Fenced, KafkaExactlyError
from airflow_kafka_exactly.runtime.background import Stopped


@contextlib.contextmanager
def as_airflows() -> Iterator[None]:
    """What trying again cannot mend fails the task at once, the rest may be retried."""
    try:
        yield
    except ConfigurationError as error:
        raise AirflowFailException(str(error)) from error
    except Fenced as error:
        raise AirflowException(f"another process has taken this slot over: {error}") from error
    except Stopped as error:
        raise AirflowException("stopped: what was begun is finished, the rest is given back") from error
    except KafkaExactlyError as error:
        raise AirflowException(str(error)) from error


def until_deadline(deadline: float | None) -> contextlib.AbstractContextManager[Any]:
    """Airflow gives a resumed task its whole `execution_timeout` again: its own alarm is set to what is left."""
    if deadline is None:
        return contextlib.nullcontext()
    left_s = max(0.001, deadline - time.time())
    return timeout(left_s, "execution_timeout has passed (time in the triggerer counts)")
