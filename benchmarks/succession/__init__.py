"""What `make failover` is made of: contenders in processes of their own, a client that votes on and on, and the faults."""
