"""Every port within one process, for tests and simulations: no service, no socket."""
