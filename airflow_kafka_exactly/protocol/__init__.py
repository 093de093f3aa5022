"""The protocol as pure code: no I/O, no clock, no chance, no logging. Modules stand in the order of a record's life."""
