-- Settings of walvec's own sessions, and what it asks about sessions.

-- name: who_answers
-- The first statement of every session: which server process answers, and the mark from its startup packet.
SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('walvec.session', true)

-- name: pin
-- A setting that this version of the server does not have is skipped.
SELECT set_config(s.name, wanted.value, false)
FROM jsonb_each_text(%(settings)s::jsonb) AS wanted
JOIN pg_settings AS s ON s.name = wanted.key

-- name: limit_locks
-- How long a statement waits for a lock; 0: without limit.
SELECT set_config('lock_timeout', %(limit)s, false)

-- name: durable_commits
-- With `off`, a crash of the server could lose a checkpoint that was already confirmed to the slot.
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'

-- name: session_began
-- When a session began: after a restart, another one may have its process id. No row: it has ended.
SELECT backend_start::text FROM pg_stat_activity WHERE pid = %(pid)s

-- name: waits_for
-- Whether a session is working on a statement, for how long, what the statement waits for, and which sessions hold the
-- lock where it waits for one. No row: the session has ended.
SELECT
    a.state = 'active' AS at_work,
    a.wait_event_type || ': ' || a.wait_event AS event,
    CASE WHEN a.wait_event_type = 'Lock' THEN ARRAY(
        SELECT concat(
            CASE WHEN holder = 0 THEN 'a prepared transaction' ELSE 'session ' || holder END,
            ' (role ' || h.usename || coalesce(', application ' || nullif(h.application_name, ''), '') || ')'
        )
        FROM unnest(pg_blocking_pids(a.pid)) AS holder
        LEFT JOIN pg_stat_activity AS h ON h.pid = holder
    ) END AS holders,
    extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS seconds
FROM pg_stat_activity AS a WHERE a.pid = %(pid)s

-- name: writing_sessions
-- The sessions that write batches for the process of a session: those of its role in its database. Two processes of one
-- role and database look alike, so a wait may belong to the other one.
SELECT w.pid FROM pg_stat_activity AS h
JOIN pg_stat_activity AS w ON w.datid = h.datid AND w.usesysid = h.usesysid AND w.application_name = 'walvec write'
WHERE h.pid = %(pid)s

-- name: vector_type
-- pgvector's type `vector`, and the schema that the extension is in. No row: there is no such extension.
SELECT t.oid, t.typarray, quote_ident(n.nspname)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
JOIN pg_type AS t ON t.typnamespace = n.oid AND t.typname = 'vector'
WHERE e.extname = 'vector'

-- name: may_use_vectors
-- Whether this role may use what is in pgvector's schema.
SELECT has_schema_privilege(extnamespace, 'USAGE') FROM pg_extension WHERE extname = 'vector'
