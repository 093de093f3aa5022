-- The one function that a migration makes and `functions/` does not replace: temporary tables come last here, too.
alter function kafka_exactly.audit_is_append_only() set search_path = kafka_exactly, pg_catalog, pg_temp;
