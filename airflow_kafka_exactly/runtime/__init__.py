"""The loops, named by the job they do. They see ports, never clients; every wait has a limit."""
