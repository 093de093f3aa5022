"""Many waiting triggers in one of Airflow's trigger runners, beside the triggers of others."""
