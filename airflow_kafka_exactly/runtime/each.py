"""One failing item never stops a loop over many (L1)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from airflow_kafka_exactly.errors import KafkaExactlyError, NotLeading, StaleEpoch
from airflow_kafka_exactly.runtime.status import describe

log = logging.getLogger(__name__)

Item = TypeVar("Item")


def each(
    items: Iterable[Item], act: Callable[[Item], object], what: str, still_there: Callable[[], object]
) -> dict[Item, str]:
    """`act` on every item. Returns why it failed, by item, and says so in the log; the others have their turn all the same. The
    end of a reign ends the loop; so does a ledger that is away for everybody: then `still_there` raises `Unavailable`."""
    failed: dict[Item, str] = {}
    for item in items:
        try:
            act(item)
        except (StaleEpoch, NotLeading):
            raise
        except Exception as error:
            failed[item] = describe(error)
            if isinstance(error, KafkaExactlyError):
                log.warning("%s failed for %s, the others go on: %s", what, item, failed[item])
            else:
                log.exception("%s failed for %s, the others go on", what, item)
            still_there()
    return failed
