-- What `walvec check --estimate` reads of the source: statistics, and rows of a bounded sample.

-- name: table_size
-- Rows by the last ANALYZE or VACUUM, carried on to the size of today; NULL where one of the tables had none.
SELECT
    CASE WHEN bool_and(size.pages = 0 OR c.reltuples >= 0 AND c.relpages > 0) THEN
        coalesce(sum(CASE WHEN size.pages > 0 THEN c.reltuples / nullif(c.relpages, 0) * size.pages END), 0)::bigint
    END AS rows,
    coalesce(sum(size.pages), 0)::bigint AS pages,
    coalesce(sum(pg_table_size(c.oid)), 0)::bigint AS bytes
FROM pg_class AS c
CROSS JOIN LATERAL (
    SELECT pg_relation_size(c.oid) / current_setting('block_size')::int AS pages
) AS size
WHERE c.oid = ANY (%(oids)s)

-- name: all_rows
-- Key and text of every row.
SELECT {key}, {embed} FROM {only} {table} AS {alias}

-- name: sampled_rows
-- Key and text of the rows in a share of the pages; the same ones each time.
SELECT {key}, {embed} FROM {only} {table} AS {alias} TABLESAMPLE SYSTEM (%(percent)s::real) REPEATABLE (1)

-- name: all_keys
SELECT {key} FROM {only} {table} AS {alias}

-- name: sampled_keys
-- The same rows without their expressions, of which one fails.
SELECT {key} FROM {only} {table} AS {alias} TABLESAMPLE SYSTEM (%(percent)s::real) REPEATABLE (1)
