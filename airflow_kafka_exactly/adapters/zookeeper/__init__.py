"""Election and directory on ZooKeeper (kazoo).

{root}/contenders/c-<uuid>-<sequence>   ephemeral, the contender's address; the lowest sequence leads
{root}/members/<quoted slot>            ephemeral, who is alive (for people and `status`)
"""

from airflow_kafka_exactly.adapters.zookeeper.directory import ZooKeeperDirectory
from airflow_kafka_exactly.adapters.zookeeper.election import ZooKeeperElection

__all__ = ["ZooKeeperDirectory", "ZooKeeperElection"]
