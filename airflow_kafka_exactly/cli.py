"""`airflow kafka-exactly …`: the commands' names and options. Airflow imports this at each start of any `airflow` command, so
what they do is in `commands.py` and imported when it is asked for."""

from __future__ import annotations

from airflow.cli.cli_config import (
    ARG_VERBOSE,
    ActionCommand,
    Arg,
    CLICommand,
    GroupCommand,
    lazy_load_command,
)

ARG_OUTPUT = Arg(
    ("-o", "--output"), help="How to print (default: table)", choices=("table", "json"), default="table"
)
ARG_GROUP = Arg(("-g", "--group"), help="Only this consumer group")
ARG_THE_GROUP = Arg(("-g", "--group"), help="The consumer group", required=True)
ARG_ALL = Arg(("-a", "--all"), help="Closed ones as well", action="store_true")
ARG_KAFKA = Arg(
    ("--kafka-config-id",), help="The Kafka connection (default: [kafka_exactly] kafka_conn_id)", default=""
)
ARG_DOUBTS = Arg(("doubts",), help="Ids of doubts", nargs="+", type=int, metavar="ID")
ARG_REASON = Arg(("--reason",), help="Why, for whoever reads the audit", required=True)
ARG_DAG = Arg(("--dag",), help="The id of the DAG that the group belongs to from now on", required=True)
ARG_TASK = Arg(("--task",), help="The id of the task", required=True)


def _command(name: str, help_text: str, *args: Arg, of: str = "") -> ActionCommand:
    function = f"{of} {name}".strip().replace("-", "_").replace(" ", "_")
    return ActionCommand(
        name=name,
        help=help_text,
        func=lazy_load_command(f"airflow_kafka_exactly.commands.{function}"),
        args=(*args, ARG_OUTPUT, ARG_VERBOSE),
    )


def get_commands() -> list[CLICommand]:
    """What `cli` in the provider's description names."""
    return [
        GroupCommand(
            name="kafka-exactly",
            help="Records consumed from Kafka, each with its effect exactly once",
            subcommands=(
                _command("migrate", "Create the ledger's schema, or bring it up to date"),
                _command("status", "Leader, members, lag, open doubts and orphan commits", ARG_KAFKA),
                _command(
                    "doubts",
                    "Records of which nobody knows yet whether their effect has happened",
                    ARG_GROUP,
                    ARG_ALL,
                ),
                _command(
                    "close-doubts",
                    "Give up doubts whose payload does not come any more",
                    ARG_DOUBTS,
                    ARG_REASON,
                ),
                _command(
                    "orphans",
                    "Settled records that Kafka's committed offset has not passed",
                    ARG_GROUP,
                    ARG_ALL,
                ),
                _command(
                    "dead-letters",
                    "Records that provably had no effect and were given up, with the reason",
                    ARG_GROUP,
                ),
                _command("lost", "Offsets that Kafka deleted before they were read", ARG_GROUP),
                _command(
                    "reconcile",
                    "Compare each offset below the committed one with the ledger; exits 1 when one deviates",
                    ARG_THE_GROUP,
                    ARG_KAFKA,
                ),
                GroupCommand(
                    name="groups",
                    help="Consumer groups, and which task each belongs to",
                    subcommands=(
                        _command(
                            "move",
                            "Give a group to the task that its DAG or task is called now",
                            ARG_THE_GROUP,
                            ARG_DAG,
                            ARG_TASK,
                            of="groups",
                        ),
                    ),
                ),
                _command("coordinator", "Contend for leadership, and lead, until told to stop", ARG_KAFKA),
            ),
        )
    ]
