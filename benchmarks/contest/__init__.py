"""The contestants of the drain benchmark. Each runs in a process of its own: `python -m contest NAME`, the plan on stdin."""
