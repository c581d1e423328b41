-- walvec's own tables in the target database.

-- name: schema_exists
-- Asked first: CREATE … IF NOT EXISTS requires the right to create even where everything exists.
SELECT to_regnamespace('walvec') IS NOT NULL

-- name: create_schema
CREATE SCHEMA walvec

-- name: create_migration_table
CREATE TABLE walvec.migration (
    version    integer     PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: migration_table_exists
SELECT to_regclass('walvec.migration') IS NOT NULL

-- name: applied_migrations
SELECT version FROM walvec.migration

-- name: record_migration
INSERT INTO walvec.migration (version) VALUES (%(version)s)

-- name: load_checkpoint
SELECT system_identifier, timeline, lsn::text, unseen_xids, commit_xid, commit_end::text
FROM walvec.checkpoint WHERE slot = %(slot)s

-- name: begin_checkpoint
-- A new slot's first checkpoint: where the slot begins. The backfill covers everything before it.
INSERT INTO walvec.checkpoint (slot, system_identifier, timeline, lsn, unseen_xids)
VALUES (%(slot)s, %(system_identifier)s, %(timeline)s, %(lsn)s, %(unseen_xids)s)

-- name: take_over
-- Make an attachment the one that writes. FOR UPDATE waits for an open transaction of the previous one; its later
-- transactions find another holder and write nothing.
WITH locked AS (SELECT slot FROM walvec.checkpoint WHERE slot = %(slot)s FOR UPDATE)
UPDATE walvec.checkpoint AS c
SET holder = %(holder)s, timeline = %(timeline)s, stalled_since = NULL, waits_for = NULL
FROM locked WHERE c.slot = locked.slot

-- name: save_checkpoint
-- Belongs to the transaction that commits the last action it covers. No row: another attachment writes, or moved it.
UPDATE walvec.checkpoint SET lsn = %(lsn)s, unseen_xids = %(unseen_xids)s, updated_at = now(),
    commit_xid = coalesce(%(commit_xid)s, commit_xid), commit_end = coalesce(%(commit_end)s, commit_end),
    stalled_since = NULL, waits_for = NULL
WHERE slot = %(slot)s AND lsn <= %(lsn)s AND holder = %(holder)s
RETURNING mod(pg_current_xact_id()::text::numeric, 4294967296)::bigint

-- name: mark_stalled
-- The next checkpoint clears it, as do seconds that are NULL.
UPDATE walvec.checkpoint SET stalled_since = now() - make_interval(secs => %(seconds)s), waits_for = %(reason)s
WHERE slot = %(slot)s AND holder = %(holder)s

-- name: set_back
-- Have everything that commits from an earlier LSN on applied again. FOR UPDATE waits for open transactions of the
-- previous attachment; without a holder its later ones write nothing. The rest of the checkpoint stays true: the xids
-- that were not visible then include those from before the LSN, and the landmark is a commit that the source must send
-- again. An epoch's horizon stays too: changes from before it are read by key.
WITH place AS (SELECT slot FROM walvec.checkpoint WHERE slot = %(slot)s FOR UPDATE),
locked AS (SELECT name FROM walvec.vectorizer WHERE slot = %(slot)s ORDER BY name FOR UPDATE),
moved AS (UPDATE walvec.vectorizer AS v SET lsn = NULL FROM locked WHERE v.name = locked.name)
UPDATE walvec.checkpoint AS c
SET lsn = %(lsn)s, holder = NULL, stalled_since = NULL, waits_for = NULL, updated_at = now()
FROM place WHERE c.slot = place.slot

-- name: delete_checkpoint
DELETE FROM walvec.checkpoint WHERE slot = %(slot)s

-- name: load_vectorizers
SELECT name, slot, source_table, target_table, fingerprint, identity, horizon::text, lsn::text, phase, generation,
    last_key, rows_done, rows_estimated, started_at, finished_at, sweeps, paused, waits_for_xid
FROM walvec.vectorizer
ORDER BY name

-- name: load_generations
SELECT name, generation FROM walvec.vectorizer WHERE slot = %(slot)s

-- name: add_vectorizer
-- Its first epoch begins when a process attaches.
INSERT INTO walvec.vectorizer (name, slot, source_table, target_table, fingerprint, generation)
VALUES (%(name)s, %(slot)s, %(source_table)s, %(target_table)s, %(fingerprint)s, 0)

-- name: begin_epoch
-- Compare every row from the first key on. FOR UPDATE waits for an open transaction of the previous epoch; later ones
-- find another generation and write nothing. Without `lsn` the changes since the checkpoint are applied again.
WITH locked AS (SELECT name FROM walvec.vectorizer WHERE name = %(name)s FOR UPDATE)
UPDATE walvec.vectorizer AS v SET
    generation = generation + 1, slot = %(slot)s, source_table = %(source_table)s, fingerprint = %(fingerprint)s,
    identity = %(identity)s, horizon = %(horizon)s, waits_for_xid = %(waits_for_xid)s,
    phase = 'rows', last_key = NULL, rows_done = 0, rows_estimated = NULL, started_at = now(), finished_at = NULL,
    paused = NULL, sweeps = true, lsn = NULL
FROM locked WHERE v.name = locked.name

-- name: hold_epoch
-- One row while the vectorizer is in this epoch and of this slot, and this attachment writes. The lock keeps all of it
-- true until the transaction ends. It is KEY SHARE because a later transaction holds it while an earlier one updates the
-- same row.
SELECT FROM walvec.vectorizer AS v
JOIN walvec.checkpoint AS c ON c.slot = v.slot
WHERE v.name = %(name)s AND v.generation = %(generation)s AND v.slot = %(slot)s AND c.holder = %(holder)s
FOR KEY SHARE

-- name: begin_backfill
-- The rows are about to be read in full: how many there are, and whether a sweep follows.
UPDATE walvec.vectorizer SET rows_estimated = %(rows_estimated)s, sweeps = %(sweeps)s
WHERE name = %(name)s AND generation = %(generation)s

-- name: save_backfill
-- Belongs to the transaction that writes the rows it covers.
UPDATE walvec.vectorizer SET phase = %(phase)s, last_key = %(last_key)s, rows_done = rows_done + %(rows)s,
    finished_at = CASE WHEN %(phase)s = 'done' THEN now() END
WHERE name = %(name)s

-- name: request_sweep
-- Keys may have gone from the source without an event in the stream: look up the target's keys, after the rows where
-- these are still being read.
UPDATE walvec.vectorizer SET sweeps = true, finished_at = NULL,
    phase = CASE phase WHEN 'rows' THEN 'rows' ELSE 'sweep' END,
    last_key = CASE phase WHEN 'rows' THEN last_key END
WHERE name = %(name)s

-- name: pause
UPDATE walvec.vectorizer SET paused = %(reason)s WHERE name = %(name)s

-- name: forget_parked
-- Every row has been read in this epoch: a row parked in an earlier one, and not again, is embedded or gone.
DELETE FROM walvec.dead_letter AS d USING walvec.vectorizer AS v
WHERE v.name = %(name)s AND d.vectorizer = v.name AND d.generation < v.generation

-- name: save_applied
-- How far one vectorizer is ahead of the checkpoint, which waits for another one.
UPDATE walvec.vectorizer SET lsn = %(lsn)s WHERE name = %(name)s

-- name: remove_vectorizer
DELETE FROM walvec.vectorizer WHERE name = %(name)s

-- name: park
-- Where the cause may pass, the row is tried again by itself: after a minute, then after twice as long each time, up to
-- a day.
INSERT INTO walvec.dead_letter (vectorizer, key, lsn, stage, error_class, error_message, generation, retry_at)
VALUES (%(vectorizer)s, %(key)s, %(lsn)s, %(stage)s, %(error_class)s, %(error_message)s, %(generation)s,
    CASE WHEN %(passes)s THEN now() + interval '1 minute' END)
ON CONFLICT (vectorizer, digest) DO UPDATE SET lsn = EXCLUDED.lsn, stage = EXCLUDED.stage,
    error_class = EXCLUDED.error_class, error_message = EXCLUDED.error_message, generation = EXCLUDED.generation,
    attempts = dead_letter.attempts + 1, last_at = now(), retry = false,
    retry_at = CASE WHEN %(passes)s THEN
        now() + least(interval '1 day', interval '1 minute' * 2 ^ least(dead_letter.attempts, 11))
    END

-- name: unpark
-- A later change of a row supersedes what was parked.
DELETE FROM walvec.dead_letter
WHERE vectorizer = %(vectorizer)s AND (%(all)s OR digest = ANY (ARRAY(
    SELECT walvec.digest(ARRAY(SELECT jsonb_array_elements_text(keys.value)))
    FROM jsonb_array_elements(%(keys)s::jsonb) AS keys
)))

-- name: count_parked
SELECT vectorizer, count(*) FROM walvec.dead_letter GROUP BY vectorizer

-- name: count_retried
-- Of these, the rows that are tried again by themselves.
SELECT vectorizer, count(*) FROM walvec.dead_letter WHERE retry OR retry_at IS NOT NULL GROUP BY vectorizer

-- name: count_parked_of
-- A vectorizer's dead letters, and how many of them this very transaction has added.
SELECT count(*), count(*) FILTER (WHERE first_at = now()) FROM walvec.dead_letter WHERE vectorizer = %(name)s

-- name: load_dead_letters
-- The newest first; all of them where neither a vectorizer nor a key is given.
SELECT d.vectorizer, d.key, d.lsn::text, d.stage, d.error_class, d.error_message, d.attempts, d.first_at, d.last_at,
    d.retry, d.retry_at
FROM walvec.dead_letter AS d
JOIN walvec.vectorizer AS v ON v.name = d.vectorizer
WHERE v.slot = %(slot)s AND d.vectorizer = coalesce(%(vectorizer)s, d.vectorizer)
    AND d.key = coalesce(%(key)s::text[], d.key)
ORDER BY d.last_at DESC, d.vectorizer, d.key
LIMIT %(limit)s

-- name: count_dead_letters
SELECT count(*) FROM walvec.dead_letter AS d
JOIN walvec.vectorizer AS v ON v.name = d.vectorizer
WHERE v.slot = %(slot)s AND d.vectorizer = coalesce(%(vectorizer)s, d.vectorizer)
    AND d.key = coalesce(%(key)s::text[], d.key)

-- name: retry_dead_letters
-- The process that follows the slot finds these, now or when it is started.
UPDATE walvec.dead_letter AS d SET retry = true FROM walvec.vectorizer AS v
WHERE v.name = d.vectorizer AND v.slot = %(slot)s AND d.vectorizer = coalesce(%(vectorizer)s, d.vectorizer)
    AND d.key = coalesce(%(key)s::text[], d.key)

-- name: discard_dead_letters
DELETE FROM walvec.dead_letter AS d USING walvec.vectorizer AS v
WHERE v.name = d.vectorizer AND v.slot = %(slot)s AND d.vectorizer = coalesce(%(vectorizer)s, d.vectorizer)
    AND d.key = coalesce(%(key)s::text[], d.key)

-- name: load_retries
-- Those that were asked for, and those that are due by this server's clock. The attempts distinguish a row that was
-- asked for again after it failed from one that is still being tried.
SELECT vectorizer, key, attempts FROM walvec.dead_letter
WHERE (retry OR retry_at <= now()) AND vectorizer = ANY (%(vectorizers)s)
ORDER BY retry DESC, retry_at, last_at, vectorizer, key
LIMIT %(limit)s

-- name: fence_exists
SELECT to_regclass('walvec.fence') IS NOT NULL

-- name: fence_key
-- The present key of the slot's lock. No row: nobody has asked for the lock yet.
SELECT key FROM walvec.fence WHERE slot = %(slot)s

-- name: add_fence
INSERT INTO walvec.fence (slot, key) VALUES (%(slot)s, %(key)s) ON CONFLICT (slot) DO NOTHING

-- name: rename_fence
-- Does nothing where another session has done so meanwhile.
UPDATE walvec.fence SET key = %(key)s WHERE slot = %(slot)s AND key = %(before)s

-- name: try_lock
-- The lock ends with the session that takes it.
SELECT pg_try_advisory_lock(%(key)s::bigint)

-- name: release_lock
-- The end of the session would release it too, but later.
SELECT pg_advisory_unlock(%(key)s::bigint)

-- name: lock_holder
-- The session that holds a lock, as far as this role may see it, and whether its role may write what the lock guards.
SELECT l.pid, a.backend_start::text AS began, r.rolname::text AS role, nullif(a.application_name, '') AS application,
    coalesce(CASE WHEN to_regclass('walvec.checkpoint') IS NULL
        THEN has_database_privilege(a.usesysid, current_database(), 'CREATE')
        ELSE has_table_privilege(a.usesysid, to_regclass('walvec.checkpoint'), 'UPDATE')
    END, true) AS may_write
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid::bigint = (%(key)s::bigint >> 32) & 4294967295
    AND l.objid::bigint = %(key)s::bigint & 4294967295
