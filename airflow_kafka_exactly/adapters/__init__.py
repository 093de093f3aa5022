"""One client library each. They do not know each other; `wiring` puts them behind the ports that runtime sees."""
