"""The demo, in the order of its story: payments, unpausing (airflow_api), four faults, the outcome.

`books` reads the ledger, `progress` prints and waits.
"""
