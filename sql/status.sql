-- What `walvec status` reads.

-- name: slot_progress
-- How far the slot's reader is behind the source.
SELECT
    coalesce(s.active, false) AS active,
    s.wal_status,
    s.safe_wal_size,
    s.confirmed_flush_lsn::text,
    (here - s.restart_lsn)::bigint AS retained_bytes,
    (here - s.confirmed_flush_lsn)::bigint AS lag_bytes,
    here::text AS position
FROM (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
) AS wal (here)
LEFT JOIN pg_replication_slots AS s ON s.slot_name = %(slot)s

-- name: checkpoint_age
-- For how many seconds it has stood where it is, and for how many it has been waiting for work in flight.
SELECT lsn::text, extract(epoch FROM clock_timestamp() - updated_at)::float8,
    extract(epoch FROM clock_timestamp() - stalled_since)::float8
FROM walvec.checkpoint WHERE slot = %(slot)s

-- name: writer_is_there
-- Whether some process holds the fence.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid::bigint = hashtext('walvec')::bigint & 4294967295
        AND objid::bigint = hashtext(%(slot)s)::bigint & 4294967295 AND objsubid = 2 AND granted
)
