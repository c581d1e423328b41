-- Standbys of the source and the slots that they keep copies of. PostgreSQL 17 and later.

-- name: standbys
-- What the primary knows. Only some roles may see which sessions synchronise slots and which standbys use none; for others
-- these columns are NULL.
SELECT
    pg_catalog.current_setting('synchronized_standby_slots', true) AS listed,
    ARRAY(
        SELECT s.slot_name::pg_catalog.text FROM pg_catalog.pg_replication_slots AS s
        WHERE s.slot_type OPERATOR(pg_catalog.=) 'physical' AND s.active AND NOT s.temporary
        ORDER BY s.slot_name
    ) AS connected,
    CASE
        WHEN EXISTS (
            SELECT FROM pg_catalog.pg_stat_activity AS a
            WHERE a.application_name OPERATOR(pg_catalog.~~) '%%slotsync worker'
        ) THEN true
        WHEN may_see.all_sessions THEN false
    END AS synchronised,
    CASE WHEN may_see.all_sessions THEN (
        SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication AS r
        WHERE r.state OPERATOR(pg_catalog.=) 'streaming' AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_replication_slots AS s WHERE s.active_pid OPERATOR(pg_catalog.=) r.pid
        )
    ) END AS without_slot
FROM (SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')) AS may_see (all_sessions)

-- name: on_standby
-- What a standby says of itself and of its copy of the slot. A primary returns no row.
SELECT
    pg_catalog.current_setting('sync_replication_slots', true) AS synchronises,
    pg_catalog.current_setting('hot_standby_feedback') AS feedback,
    (SELECT p.setting FROM pg_catalog.pg_settings AS p WHERE p.name OPERATOR(pg_catalog.=) 'primary_slot_name')
        AS primary_slot,
    s.slot_name IS NOT NULL AS has_slot,
    coalesce((pg_catalog.to_jsonb(s) OPERATOR(pg_catalog.->>) 'synced')::boolean, false) AS synced,
    coalesce(s.temporary, false) AS temporary,
    pg_catalog.to_jsonb(s) OPERATOR(pg_catalog.->>) 'invalidation_reason' AS invalidation_reason
FROM (SELECT pg_catalog.pg_is_in_recovery()) AS here (in_recovery)
LEFT JOIN pg_catalog.pg_replication_slots AS s ON s.slot_name OPERATOR(pg_catalog.=) %(slot)s
WHERE here.in_recovery

-- name: wait_for_standbys
-- Remedy: let the stream of a failover slot wait until these standbys have the WAL.
ALTER SYSTEM SET synchronized_standby_slots = {slots}

-- name: synchronise_slots
-- Remedy, on the standby; takes effect with a reload.
ALTER SYSTEM SET sync_replication_slots = on

-- name: give_feedback
-- Remedy, on the standby; takes effect with a reload.
ALTER SYSTEM SET hot_standby_feedback = on

-- name: create_standby_slot
-- Remedy: a slot for a standby.
SELECT pg_create_physical_replication_slot('standby1')

-- name: use_standby_slot
-- Remedy, on the standby; takes effect with a reload.
ALTER SYSTEM SET primary_slot_name = 'standby1'
