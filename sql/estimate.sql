-- What `walvec check --estimate` reads from the source: statistics, and the rows of a bounded sample.

-- name: table_size
-- Rows as of the last ANALYZE or VACUUM, scaled to the present size; NULL where one of the tables had neither.
SELECT
    CASE WHEN pg_catalog.bool_and(
        size.pages OPERATOR(pg_catalog.=) 0
        OR c.reltuples OPERATOR(pg_catalog.>=) 0 AND c.relpages OPERATOR(pg_catalog.>) 0
    ) THEN coalesce(pg_catalog.sum(
        CASE WHEN size.pages OPERATOR(pg_catalog.>) 0 AND c.relpages OPERATOR(pg_catalog.>) 0
            THEN c.reltuples OPERATOR(pg_catalog./) c.relpages OPERATOR(pg_catalog.*) size.pages END
    ), 0)::bigint END AS rows,
    coalesce(pg_catalog.sum(size.pages), 0)::bigint AS pages,
    coalesce(pg_catalog.sum(pg_catalog.pg_table_size(c.oid)), 0)::bigint AS bytes
FROM pg_catalog.pg_class AS c
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_relation_size(c.oid)
        OPERATOR(pg_catalog./) pg_catalog.current_setting('block_size')::integer AS pages
) AS size
WHERE c.oid OPERATOR(pg_catalog.=) ANY (%(oids)s)

-- name: all_rows
-- Key and text of every row.
SELECT {key}, {embed} FROM {only} {table} AS {alias}

-- name: sampled_rows
-- Key and text of the rows in a share of the pages, the same ones each time.
SELECT {key}, {embed} FROM {only} {table} AS {alias} TABLESAMPLE pg_catalog.system (%(percent)s::real) REPEATABLE (1)

-- name: all_keys
SELECT {key} FROM {only} {table} AS {alias}

-- name: sampled_keys
-- The same rows without their expressions, for when one of these fails.
SELECT {key} FROM {only} {table} AS {alias} TABLESAMPLE pg_catalog.system (%(percent)s::real) REPEATABLE (1)
