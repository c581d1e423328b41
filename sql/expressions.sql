-- What a vectorizer's expressions call. Nothing here writes, locks or creates anything.

-- name: called_functions
-- Every function that the expressions may reach and that did not come with PostgreSQL, which its oid tells, with the
-- transaction that wrote it last. It lists too many rather than too few:
-- 1. A function is reached if its name occurs in the text or in a reached body: as a whole word if it is a plain name,
--    anywhere otherwise.
-- 2. Casts, operators and the checks of domains are called without a name. All of their functions count, except those
--    in C, which are not replaced one by one.
-- 3. pg_depend knows what aggregates call, and bodies that were parsed when they were created (SQL standard).
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

-- name: plan_of_text
-- Have `text` parsed and planned over no rows, as if it stood in the statements of source.sql. Where its value could
-- differ from call to call, the planner computes it above the sort, so that the topmost node is a Result. SQL functions
-- of one expression are inlined before.
EXPLAIN (VERBOSE, FORMAT JSON, COSTS OFF)
SELECT (
{expression}
)::text
FROM json_populate_recordset(NULL::{table}, '[]') AS {alias}, generate_series(1, 2) AS walvec_fence (walvec_order)
ORDER BY walvec_fence.walvec_order

-- name: plan_of_where
-- The same, for `where`.
EXPLAIN (VERBOSE, FORMAT JSON, COSTS OFF)
SELECT CASE WHEN (
{expression}
) THEN 1 END
FROM json_populate_recordset(NULL::{table}, '[]') AS {alias}, generate_series(1, 2) AS walvec_fence (walvec_order)
ORDER BY walvec_fence.walvec_order

-- name: values_of_literals
-- The values of an expression's string constants, however they are quoted.
SELECT ARRAY[{literals}]::text[]

-- name: what_is_called
-- What the catalog says of names that EXPLAIN printed: functions, and aggregates by their name alone; operators that did
-- not come with PostgreSQL, and such volatile casts, which have no name; the checks of domains, to be read in turn.
SELECT
    'function' AS kind,
    p.proname::text AS name,
    call.arguments,
    quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')'
        AS signature,
    p.oid >= 16384 AS own,
    n.nspname = 'pg_catalog' AS in_catalog,
    p.provolatile::text AS volatility,
    p.prokind::text AS sort,
    p.proretset AS gives_rows
FROM unnest(%(schemas)s::text[], %(names)s::text[], %(arguments)s::int[]) AS call (schema, name, arguments)
JOIN pg_proc AS p ON p.proname = call.name
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE CASE call.schema WHEN '' THEN pg_function_is_visible(p.oid) ELSE n.nspname = call.schema END
    AND (
        p.prokind <> 'f'
        OR p.pronargs = call.arguments
        OR p.provariadic > 0 AND p.pronargs <= call.arguments + 1
    )
UNION ALL
SELECT
    'operator', o.oprname::text, 2,
    quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')',
    true, false, p.provolatile::text, 'f', false
FROM unnest(%(operator_schemas)s::text[], %(symbols)s::text[]) AS operation (schema, symbol)
JOIN pg_operator AS o ON o.oprname = operation.symbol
JOIN pg_proc AS p ON p.oid = o.oprcode
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.oid >= 16384
    AND CASE operation.schema
        WHEN '' THEN pg_operator_is_visible(o.oid)
        ELSE o.oprnamespace = (SELECT oid FROM pg_namespace WHERE nspname = operation.schema)
    END
UNION ALL
SELECT
    'cast', format_type(c.casttarget, NULL), 1,
    quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')',
    true, false, p.provolatile::text, 'f', false
FROM pg_cast AS c
JOIN pg_proc AS p ON p.oid = c.castfunc
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.oid >= 16384 AND p.provolatile = 'v'
UNION ALL
SELECT 'check', pg_get_constraintdef(c.oid), 0, '', true, false, '', '', false
FROM (
    WITH RECURSIVE domain (oid) AS (
        SELECT to_regtype(name)::oid FROM unnest(%(types)s::text[]) AS cast_to (name)
        UNION
        SELECT t.typbasetype FROM domain JOIN pg_type AS t USING (oid) WHERE t.typtype = 'd'
    )
    SELECT oid FROM domain
) AS domain
JOIN pg_constraint AS c ON c.contypid = domain.oid

-- name: nullable_columns
-- Which columns may hold NULL. Arrays are left out: one that is joined to NULL stays as it is.
SELECT a.attname::text
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_type AS t ON t.oid = a.atttypid
WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attnotnull
    AND t.typcategory <> 'A'

-- name: missing_grants
-- Remedies, for each schema, function or relation of this name that this role may not use.
SELECT format('GRANT USAGE ON SCHEMA %%I TO %%I', nspname, current_user)
FROM pg_namespace
WHERE %(kind)s = 'schema' AND nspname = %(name)s AND NOT has_schema_privilege(oid, 'USAGE')
UNION ALL
SELECT format(
    'GRANT EXECUTE ON FUNCTION %%I.%%I(%%s) TO %%I',
    n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), current_user
)
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE %(kind)s = 'function' AND p.proname = %(name)s AND NOT has_function_privilege(p.oid, 'EXECUTE')
UNION ALL
SELECT format('GRANT SELECT ON %%I.%%I TO %%I', n.nspname, c.relname, current_user)
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE %(kind)s NOT IN ('schema', 'function') AND c.relname = %(name)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND NOT has_table_privilege(c.oid, 'SELECT')
