-- What a vectorizer's expressions call. Nothing here writes, locks or creates anything.

-- name: called_functions
-- Every function that the expressions may reach and that did not come with PostgreSQL (its oid says so), with the
-- transaction that wrote it last. Rather too many than too few:
-- a function is reached if its name is a word of the text or of a reached body; whole, if it is a plain name, else
-- anywhere in it; casts, operators and the checks of domains need no word, and all of them count that are written in a
-- language whose functions are replaced one by one, which C's are not; pg_depend knows what bodies that were parsed when
-- they were made (SQL standard) and aggregates call.
WITH RECURSIVE own AS MATERIALIZED (
    SELECT
        p.oid,
        lower(p.proname COLLATE "C") AS name,
        lower(replace(p.proname, '"', '""') COLLATE "C") AS spelt,
        p.proname ~ '^[A-Za-z0-9_]+$' AS plain,
        CASE WHEN l.lanname NOT IN ('c', 'internal') THEN lower(p.prosrc COLLATE "C") END AS body,
        p.xmin::text::bigint AS version
    FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
    WHERE p.oid >= 16384
),
unspoken (oid) AS MATERIALIZED (
    SELECT castfunc FROM pg_catalog.pg_cast WHERE castfunc >= 16384
    UNION
    SELECT oprcode FROM pg_catalog.pg_operator WHERE oprcode >= 16384
    UNION
    SELECT d.refobjid
    FROM pg_catalog.pg_constraint AS c
    JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_constraint'::regclass AND d.objid = c.oid
    WHERE c.contypid > 0 AND d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid >= 16384
),
reached (oid, body) AS (
    SELECT 0::oid, lower(%(text)s COLLATE "C")
    UNION
    SELECT own.oid, own.body FROM unspoken JOIN own USING (oid) WHERE own.body IS NOT NULL
    UNION
    SELECT callee.oid, callee.body
    FROM reached
    CROSS JOIN LATERAL (
        SELECT own.oid, own.body
        FROM (SELECT DISTINCT left(word, 63) AS name FROM regexp_split_to_table(reached.body, '[^a-z0-9_]+') AS word) AS w
        JOIN own USING (name)
        WHERE own.plain
        UNION ALL
        SELECT own.oid, own.body
        FROM own
        WHERE NOT own.plain AND strpos(reached.body, own.spelt) > 0 OR strpos(reached.body, 'u&"') > 0
        UNION ALL
        SELECT own.oid, own.body
        FROM pg_catalog.pg_depend AS d
        JOIN own ON own.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass
            AND d.objid = reached.oid
            AND d.refclassid = 'pg_catalog.pg_proc'::regclass
    ) AS callee
)
SELECT DISTINCT own.oid::bigint, own.version FROM reached JOIN own USING (oid) ORDER BY 1
