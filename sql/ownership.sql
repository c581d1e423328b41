-- What walvec made, and whether it may write what it did not make.

-- name: made_exists
SELECT to_regclass('walvec.made') IS NOT NULL

-- name: load_made
SELECT slot, kind, name, oid FROM walvec.made ORDER BY kind, name, slot

-- name: announce
-- No row: it was recorded already.
INSERT INTO walvec.made (slot, kind, name) VALUES (%(slot)s, %(kind)s, %(name)s)
ON CONFLICT DO NOTHING
RETURNING true

-- name: record
INSERT INTO walvec.made (slot, kind, name, oid) VALUES (%(slot)s, %(kind)s, %(name)s, %(oid)s)
ON CONFLICT (slot, kind, name) DO UPDATE SET oid = EXCLUDED.oid

-- name: forget
DELETE FROM walvec.made WHERE slot = %(slot)s AND kind = %(kind)s AND name = %(name)s

-- name: forget_slot
-- Things of other kinds stay recorded: they are kept, or belong to the target database as a whole. An index goes with
-- its table.
DELETE FROM walvec.made AS m
WHERE slot = %(slot)s AND kind = ANY (%(kinds)s::text[])
    OR kind = 'index' AND oid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = m.oid)

-- name: hand_over
-- A table that an earlier slot left behind is recorded for the slot that writes it now, so that one teardown drops it.
WITH others AS (
    DELETE FROM walvec.made WHERE kind = 'table' AND name = %(name)s AND slot <> %(slot)s RETURNING oid
)
INSERT INTO walvec.made (slot, kind, name, oid)
SELECT DISTINCT %(slot)s, 'table', %(name)s, %(oid)s::oid FROM others WHERE oid IS NULL OR oid = %(oid)s
ON CONFLICT DO NOTHING

-- name: schema
-- Schema walvec, and what in it could run another role's code: a function or a table of another owner, a view, or a
-- table with a trigger, a rule or a policy. A superuser is trusted: it can run code without these.
SELECT
    n.oid,
    pg_get_userbyid(n.nspowner) AS owner,
    current_user AS role,
    n.nspowner = me.oid OR his.rolsuper AS trusted,
    (
        SELECT array_agg(p.proname::text ORDER BY p.proname)
        FROM pg_proc AS p
        JOIN pg_roles AS owner ON owner.oid = p.proowner
        WHERE p.pronamespace = n.oid AND p.proowner <> me.oid AND NOT owner.rolsuper
    ) AS foreign_functions,
    (
        SELECT array_agg(c.relname::text ORDER BY c.relname)
        FROM pg_class AS c
        JOIN pg_roles AS owner ON owner.oid = c.relowner
        WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND (
            c.relkind <> 'r'
            OR c.relowner <> me.oid AND NOT owner.rolsuper
            OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)
            OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid)
            OR EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)
        )
    ) AS foreign_tables
FROM pg_namespace AS n
JOIN pg_roles AS his ON his.oid = n.nspowner
JOIN pg_roles AS me ON me.rolname = current_user
WHERE n.nspname = 'walvec'

-- name: relation
-- The relation with a name in the target, its owner, and what would run code when it is written.
SELECT
    c.oid,
    c.relkind::text AS kind,
    pg_get_userbyid(c.relowner) AS owner,
    current_user AS role,
    c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user) AS owned,
    (
        SELECT array_agg(bears.what ORDER BY bears.what)
        FROM (
            SELECT 'trigger ' || tgname::text FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal
            UNION ALL
            SELECT 'rule ' || rulename::text FROM pg_rewrite WHERE ev_class = c.oid
            UNION ALL
            SELECT 'policy ' || polname::text FROM pg_policy WHERE polrelid = c.oid
        ) AS bears (what)
    ) AS bears
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s::text AND c.relname = %(name)s::text

-- name: is_unused
-- Whether no slot needs walvec's tables any longer, and nothing that walvec made is recorded in them.
SELECT NOT EXISTS (SELECT FROM walvec.checkpoint) AND NOT EXISTS (SELECT FROM walvec.vectorizer)
    AND NOT EXISTS (SELECT FROM walvec.made WHERE kind <> 'schema') AS unused,
    EXISTS (SELECT FROM walvec.made WHERE kind = 'schema') AS made

-- name: drop_tables
-- Without CASCADE: objects that somebody made on top of these make it fail, and are not dropped along.
DROP TABLE walvec.dead_letter, walvec.vectorizer, walvec.checkpoint, walvec.fence, walvec.made, walvec.migration;
DROP FUNCTION walvec.digest(text[])

-- name: drop_schema
DROP SCHEMA walvec

-- name: drop_table
DROP TABLE {table}

-- name: change_owner
-- Remedy
ALTER TABLE {table} OWNER TO {role}

-- name: grant_all
-- Remedy
GRANT USAGE ON SCHEMA walvec TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA walvec TO {role}

-- name: change_schema_owner
-- Remedy, for a superuser who has looked at what is in it. If nobody needs it: DROP SCHEMA.
ALTER SCHEMA walvec OWNER TO {role}
