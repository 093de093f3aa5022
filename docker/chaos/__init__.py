"""Real faults, drawn from a seed, in the order of a run: links, stack, producing, observing, faults, nemesis, draining, report.

What it shares with the demo (the topic, its effects, the ledger's books, Airflow's API) is the demo's.
"""
