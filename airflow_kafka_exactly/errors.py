"""Every error of this package, named by what the caller should do about it.

    KafkaExactlyError
    ├── ConfigurationError   fix the configuration; trying again changes nothing
    ├── Unavailable          a service did not answer; try again
    ├── StaleEpoch           the vote is of an old leader; ask again
    ├── Fenced               this life or claim is over; stop for good
    ├── AlreadyApplied       the effect is there already; go on
    ├── PeerRefused          drop the peer
    └── Undecidable          ask a person

`NotApplied` is the one exception that a user's function raises to tell us something.
"""


class KafkaExactlyError(Exception):
    """The root of every error that this package raises on purpose."""


# -- fix the configuration ---------------------------------------------------------------------------------------------


class ConfigurationError(KafkaExactlyError):
    """Something is set in a way that cannot work. The message names the setting and what to do."""


class ConnectionMissing(ConfigurationError):
    """Airflow finds no such connection: it is not defined, or whoever keeps it (a secrets backend) does not answer. Airflow says
    the same of both."""


class UnsafeConnection(ConfigurationError):
    """The Kafka connection turns on something that would lose or repeat records (auto-commit, for example)."""


class TopicMissing(ConfigurationError):
    """A topic does not exist on the cluster."""


class RecordsLost(ConfigurationError):
    """Records were deleted from Kafka (retention) before this group had read them. A person decides whether it goes on."""


class GroupInUse(ConfigurationError):
    """The consumer group already has members or offsets that this package did not write, or belongs to another task."""


class SchemaMissing(ConfigurationError):
    """The ledger's schema is not there. Run `airflow kafka-exactly migrate`."""


class SchemaTooOld(ConfigurationError):
    """The ledger's schema is older than this version needs. Run `airflow kafka-exactly migrate`."""


class SchemaTooNew(ConfigurationError):
    """The ledger's schema was made by a newer version. Upgrade this installation."""


class UnknownFunction(ConfigurationError):
    """A function given by dotted path does not exist, or a callable cannot be found again by another process."""


class SlotBusy(ConfigurationError):
    """The slot is held by a live life of another task instance, which `holder` names."""

    def __init__(self, slot: str, holder: str, lease_left_s: float) -> None:
        super().__init__(
            f"slot {slot!r} is held by {holder}, whose lease ends in {lease_left_s:.0f} s. Wait for it (on_busy='wait'), "
            "limit the DAG to one active run (max_active_runs=1), or give the operator a group_id of its own."
        )
        self.slot, self.holder, self.lease_left_s = slot, holder, lease_left_s


class LedgerBehind(ConfigurationError):
    """The ledger has forgotten claims that Kafka's offset commits prove it once granted (a restored backup, a failover
    that lost acknowledged transactions). Nothing is claimed until a person has looked."""


# -- try again ---------------------------------------------------------------------------------------------------------


class Unavailable(KafkaExactlyError):
    """A service did not answer in time.

    `service` is "Kafka", "ZooKeeper", "PostgreSQL" or "the leader"; `setting` is the connection or option that says
    where it is.
    """

    def __init__(self, service: str, setting: str, detail: object) -> None:
        super().__init__(f"{service} ({setting}) is unavailable: {detail}")
        self.service, self.setting = service, setting


class NoLeader(Unavailable):
    """No coordinator leads at the moment."""

    def __init__(self, detail: object = "no contender has been elected") -> None:
        super().__init__("the leader", "start one: airflow kafka-exactly coordinator", detail)


class NotLeading(KafkaExactlyError):
    """The peer that was asked does not lead (any more). Look the leader up again."""


# -- ask again ---------------------------------------------------------------------------------------------------------


class StaleEpoch(KafkaExactlyError):
    """The ledger's epoch is newer than the one of this vote or leader (S4)."""


# -- stop for good -----------------------------------------------------------------------------------------------------


class Fenced(KafkaExactlyError):
    """This life is over: superseded, fenced, or its claim is no longer open (S4). Never reopen in this process."""


class AlreadyApplied(KafkaExactlyError):
    """The effect's own transaction had committed, and only its answer was lost: go on after the record (S1)."""


# -- drop the peer -----------------------------------------------------------------------------------------------------


class PeerRefused(KafkaExactlyError):
    """A caller without the shared secret, or one that speaks another version of the protocol."""


# -- ask a person ------------------------------------------------------------------------------------------------------


class Undecidable(KafkaExactlyError):
    """No fact decides whether the effect happened (S7)."""


# -- raised by the user's function -------------------------------------------------------------------------------------


class NotApplied(Exception):
    """Raise this in the function to vouch that the effect of the record has not happened and cannot happen any more."""
