"""The one table that says what the answer to an offset commit means (case 30).

Each constant of `confluent_kafka.KafkaError` stands in exactly one row; a test walks through all of them. Codes that no offset
commit is answered with are listed as fatal: meeting one means that the broker or the client is not what we think it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError

from airflow_kafka_exactly.protocol.claims import CommitCode

_ACCEPTED: Final = ("NO_ERROR",)

# The partition is not ours any more, or cannot be told to be. Nothing is sent again for it: what was settled is an orphan
# commit (S8), and the next owner or the leader takes it from there.
_ORPHAN: Final = (
    "ILLEGAL_GENERATION",
    "UNKNOWN_MEMBER_ID",
    "FENCED_INSTANCE_ID",
    "FENCED_MEMBER_EPOCH",
    "STALE_MEMBER_EPOCH",
    "UNRELEASED_INSTANCE_ID",
    "MEMBER_ID_REQUIRED",
    "GROUP_ID_NOT_FOUND",
    "UNKNOWN_TOPIC_OR_PART",
    "UNKNOWN_TOPIC_ID",
    "INCONSISTENT_TOPIC_ID",
    "_UNKNOWN_TOPIC",
    "_UNKNOWN_PARTITION",
    "_UNKNOWN_GROUP",
    "_ASSIGNMENT_LOST",
    "_MAX_POLL_EXCEEDED",
    "_FATAL",
    "_FENCED",
    "_DESTROY",
    "_STATE",
    "_OUTDATED",
)

# The partition is still ours and the same commit, or a later one, may pass.
_RETRY: Final = (
    "REBALANCE_IN_PROGRESS",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "NOT_COORDINATOR",
    "REQUEST_TIMED_OUT",
    "NETWORK_EXCEPTION",
    "BROKER_NOT_AVAILABLE",
    "LEADER_NOT_AVAILABLE",
    "NOT_LEADER_FOR_PARTITION",
    "REPLICA_NOT_AVAILABLE",
    "PREFERRED_LEADER_NOT_AVAILABLE",
    "NOT_ENOUGH_REPLICAS",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    "NOT_CONTROLLER",
    "UNSTABLE_OFFSET_COMMIT",
    "OFFSET_NOT_AVAILABLE",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "STALE_BROKER_EPOCH",
    "KAFKA_STORAGE_ERROR",
    "THROTTLING_QUOTA_EXCEEDED",
    "CONCURRENT_TRANSACTIONS",
    "INVALID_MSG",
    "REBOOTSTRAP_REQUIRED",
    "UNKNOWN",
    "_ALL_BROKERS_DOWN",
    "_TRANSPORT",
    "_RESOLVE",
    "_TIMED_OUT",
    "_TIMED_OUT_QUEUE",
    "_MSG_TIMED_OUT",
    "_WAIT_COORD",
    "_WAIT_CACHE",
    "_IN_PROGRESS",
    "_PREV_IN_PROGRESS",
    "_CONFLICT",
    "_RETRY",
    "_INTR",
    "_NODE_UPDATE",
    "_QUEUE_FULL",
    "_ISR_INSUFF",
    "_UNKNOWN_BROKER",
    "_DESTROY_BROKER",
    "_FAIL",
    "_BAD_MSG",
    "_UNDERFLOW",
    "_PARTIAL",
    "_PURGE_QUEUE",
    "_PURGE_INFLIGHT",
    "_CRIT_SYS_RESOURCE",
)

# A setting, a permission or a version is wrong: trying again changes nothing.
_FATAL: Final = (
    "GROUP_AUTHORIZATION_FAILED",
    "TOPIC_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "SASL_AUTHENTICATION_FAILED",
    "UNSUPPORTED_SASL_MECHANISM",
    "ILLEGAL_SASL_STATE",
    "SECURITY_DISABLED",
    "_AUTHENTICATION",
    "_SSL",
    "INVALID_GROUP_ID",
    "INCONSISTENT_GROUP_PROTOCOL",
    "INVALID_SESSION_TIMEOUT",
    "GROUP_MAX_SIZE_REACHED",
    "INVALID_COMMIT_OFFSET_SIZE",
    "OFFSET_METADATA_TOO_LARGE",
    "OFFSET_OUT_OF_RANGE",
    "TOPIC_EXCEPTION",
    "INVALID_REQUEST",
    "UNSUPPORTED_VERSION",
    "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    "UNSUPPORTED_ASSIGNOR",
    "POLICY_VIOLATION",
    "INVALID_CONFIG",
    "_INVALID_ARG",
    "_INVALID_TYPE",
    "_NOT_IMPLEMENTED",
    "_NOT_CONFIGURED",
    "_UNSUPPORTED_FEATURE",
    "_UNKNOWN_PROTOCOL",
    "_NO_OFFSET",
)

_NEVER_ANSWERED: Final = (  # and fatal, should one come nevertheless
    *(
        "_BAD_COMPRESSION",
        "_PARTITION_EOF",
        "_FS",
        "_EXISTING_SUBSCRIPTION",
        "_ASSIGN_PARTITIONS",
        "_REVOKE_PARTITIONS",
    ),
    *(
        "_KEY_SERIALIZATION",
        "_VALUE_SERIALIZATION",
        "_KEY_DESERIALIZATION",
        "_VALUE_DESERIALIZATION",
        "_READ_ONLY",
    ),
    *(
        "_NOENT",
        "_INCONSISTENT",
        "_GAPLESS_GUARANTEE",
        "_APPLICATION",
        "_NOOP",
        "_AUTO_OFFSET_RESET",
        "_LOG_TRUNCATION",
    ),
    *(
        "_INVALID_DIFFERENT_RECORD",
        "INVALID_MSG_SIZE",
        "MSG_SIZE_TOO_LARGE",
        "STALE_CTRL_EPOCH",
        "RECORD_LIST_TOO_LARGE",
    ),
    *("INVALID_REQUIRED_ACKS", "INVALID_TIMESTAMP", "TOPIC_ALREADY_EXISTS", "INVALID_PARTITIONS"),
    *("INVALID_REPLICATION_FACTOR", "INVALID_REPLICA_ASSIGNMENT", "OUT_OF_ORDER_SEQUENCE_NUMBER"),
    *(
        "DUPLICATE_SEQUENCE_NUMBER",
        "INVALID_PRODUCER_EPOCH",
        "INVALID_TXN_STATE",
        "INVALID_PRODUCER_ID_MAPPING",
    ),
    *(
        "INVALID_TRANSACTION_TIMEOUT",
        "TRANSACTION_COORDINATOR_FENCED",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    ),
    *("OPERATION_NOT_ATTEMPTED", "LOG_DIR_NOT_FOUND", "UNKNOWN_PRODUCER_ID", "REASSIGNMENT_IN_PROGRESS"),
    *("DELEGATION_TOKEN_AUTH_DISABLED", "DELEGATION_TOKEN_NOT_FOUND", "DELEGATION_TOKEN_OWNER_MISMATCH"),
    *(
        "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
        "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
        "DELEGATION_TOKEN_EXPIRED",
    ),
    *(
        "INVALID_PRINCIPAL_TYPE",
        "NON_EMPTY_GROUP",
        "FETCH_SESSION_ID_NOT_FOUND",
        "INVALID_FETCH_SESSION_EPOCH",
    ),
    *(
        "LISTENER_NOT_FOUND",
        "TOPIC_DELETION_DISABLED",
        "UNSUPPORTED_COMPRESSION_TYPE",
        "ELIGIBLE_LEADERS_NOT_AVAILABLE",
    ),
    *("ELECTION_NOT_NEEDED", "NO_REASSIGNMENT_IN_PROGRESS", "GROUP_SUBSCRIBED_TO_TOPIC", "INVALID_RECORD"),
    *("PRODUCER_FENCED", "RESOURCE_NOT_FOUND", "DUPLICATE_RESOURCE", "UNACCEPTABLE_CREDENTIAL"),
    *(
        "INCONSISTENT_VOTER_SET",
        "INVALID_UPDATE_VERSION",
        "FEATURE_UPDATE_FAILED",
        "PRINCIPAL_DESERIALIZATION_FAILURE",
    ),
    *(
        "MISMATCHED_ENDPOINT_TYPE",
        "UNSUPPORTED_ENDPOINT_TYPE",
        "UNKNOWN_CONTROLLER_ID",
        "UNKNOWN_SUBSCRIPTION_ID",
    ),
    *("TELEMETRY_TOO_LARGE", "INVALID_REGISTRATION", "TRANSACTION_ABORTABLE", "INVALID_RECORD_STATE"),
    *(
        "SHARE_SESSION_NOT_FOUND",
        "INVALID_SHARE_SESSION_EPOCH",
        "SHARE_SESSION_LIMIT_REACHED",
        "FENCED_STATE_EPOCH",
    ),
    *("INVALID_VOTER_KEY", "DUPLICATE_VOTER", "VOTER_NOT_FOUND", "INVALID_REGULAR_EXPRESSION"),
    *("STREAMS_INVALID_TOPOLOGY", "STREAMS_INVALID_TOPOLOGY_EPOCH", "STREAMS_TOPOLOGY_FENCED"),
)

_ROWS: Final = (
    (CommitCode.ACCEPTED, _ACCEPTED),
    (CommitCode.ORPHAN, _ORPHAN),
    (CommitCode.RETRY, _RETRY),
    (CommitCode.FATAL, (*_FATAL, *_NEVER_ANSWERED)),
)

BY_NAME: Final[Mapping[str, CommitCode]] = {name: code for code, names in _ROWS for name in names}
"""Every constant of `KafkaError` by name."""

# A client older or newer than the one this was written with lacks some constants; those rows are then never met.
TABLE: Final[Mapping[int, CommitCode]] = {
    getattr(KafkaError, name): code for name, code in BY_NAME.items() if hasattr(KafkaError, name)
}

OF_ONE_PARTITION: Final = frozenset(
    getattr(KafkaError, name)
    for name in (
        *(
            "UNKNOWN_TOPIC_OR_PART",
            "TOPIC_AUTHORIZATION_FAILED",
            "OFFSET_METADATA_TOO_LARGE",
            "UNKNOWN_TOPIC_ID",
        ),
        *("INVALID_COMMIT_OFFSET_SIZE", "INCONSISTENT_TOPIC_ID", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"),
    )
    if hasattr(KafkaError, name)
)
"""Codes that speak of one partition: the others of the same request may have been accepted."""


def classify(error: KafkaError | None) -> tuple[CommitCode, str]:
    """What the answer means, and Kafka's own name for it. A code that is not in the table is an orphan commit: that never
    loses or repeats anything, and the leader looks at it (S8)."""
    if error is None:
        return CommitCode.ACCEPTED, "NO_ERROR"
    return TABLE.get(error.code(), CommitCode.ORPHAN), error.name()
