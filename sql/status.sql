-- What `walvec status` reads.

-- name: slot_progress
-- How far the slot's reader is behind the source. The newest commit's age is known where the server keeps commit times.
SELECT
    coalesce(s.active, false) AS active,
    s.active_pid,
    s.wal_status,
    s.safe_wal_size,
    (to_jsonb(s) ->> 'failover')::boolean AS failover,
    coalesce((to_jsonb(s) ->> 'failover')::boolean AND (to_jsonb(s) ->> 'synced')::boolean, false) AS came_along,
    s.confirmed_flush_lsn::text,
    (here - s.restart_lsn)::bigint AS retained_bytes,
    (here - s.confirmed_flush_lsn)::bigint AS lag_bytes,
    here::text AS position,
    CASE WHEN current_setting('track_commit_timestamp')::boolean AND NOT pg_is_in_recovery() THEN (
        SELECT extract(epoch FROM clock_timestamp() - c.timestamp)::float8 FROM pg_last_committed_xact() AS c
    ) END AS newest_commit_seconds
FROM (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
) AS wal (here)
LEFT JOIN pg_replication_slots AS s ON s.slot_name = %(slot)s

-- name: checkpoint_age
-- How many seconds the checkpoint has been where it is, how many it has waited for work in flight, and why; and the
-- server and timeline that it is of.
SELECT lsn::text, system_identifier, timeline, waits_for,
    extract(epoch FROM clock_timestamp() - updated_at)::float8 AS age,
    extract(epoch FROM clock_timestamp() - stalled_since)::float8 AS stalled
FROM walvec.checkpoint WHERE slot = %(slot)s

-- name: rows_of_leaf
-- The rows of one table or partition, without those of tables that inherit from it.
SELECT pg_catalog.count(*) AS rows FROM ONLY {leaf}

-- name: rows_of_leaves
SELECT pg_catalog.sum(leaf.rows)::bigint FROM ({leaves}) AS leaf

-- name: chunks_written
-- How many rows were ever written to a target, by the server's own count, a moment late. Its growth is the rate.
SELECT pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid) AS written,
    CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS estimate
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
