-- Reads of the source database. Nothing here writes, locks or creates anything.
-- {table} is the vectorizer's table and {alias} its bare name, under which the expressions know the row;
-- {embed} is the vectorizer's `text` under its `where` and the publication's row filter.

-- name: evaluate_images
-- Evaluate the expressions on row images, one a line, in the order given. The same expressions serve every read below,
-- so that the stream and the backfill give equal text, byte by byte.
SELECT {embed} FROM json_populate_recordset(NULL::{table}, %(images)s::json) AS {alias}

-- name: embed_expression
-- A row that must not be embedded gives NULL, as does one without text. The line breaks end a trailing comment.
CASE WHEN (
{filter}
) AND (
{where}
) THEN (
{text}
)::text END

-- name: used_columns
-- Let the planner say which columns the expressions use: the fence (OFFSET 0) keeps the inner SELECT apart, and the
-- planner puts NULL in place of those of its columns that nothing above reads.
EXPLAIN (VERBOSE, FORMAT JSON, COSTS OFF)
SELECT {embed} FROM (
    SELECT * FROM json_populate_recordset(NULL::{table}, '[]') AS {alias} OFFSET 0
) AS {alias}

-- name: rows_from_start
-- The first rows in key order, with their text, and whether that is longer than what may come together with others: it
-- is left out then.
SELECT {names}, CASE WHEN octet_length(walvec_text) <= %(longest)s THEN walvec_text END,
    octet_length(walvec_text) > %(longest)s
FROM (
    SELECT {key}, {embed} FROM {only} {table} AS {alias}
    ORDER BY {key} LIMIT %(limit)s
) AS walvec_row ({names}, walvec_text)
ORDER BY {names}

-- name: rows_after
-- The rows that follow a key, in key order, as above.
SELECT {names}, CASE WHEN octet_length(walvec_text) <= %(longest)s THEN walvec_text END,
    octet_length(walvec_text) > %(longest)s
FROM (
    SELECT {key}, {embed} FROM {only} {table} AS {alias}
    WHERE ({key}) > ({after})
    ORDER BY {key} LIMIT %(limit)s
) AS walvec_row ({names}, walvec_text)
ORDER BY {names}

-- name: keys_from_start
-- The first keys alone, for rows among which an expression fails.
SELECT {key} FROM {only} {table} AS {alias}
ORDER BY {key} LIMIT %(limit)s

-- name: keys_after
SELECT {key} FROM {only} {table} AS {alias}
WHERE ({key}) > ({after})
ORDER BY {key} LIMIT %(limit)s

-- name: rows_by_key
-- One text a key, in the order given; NULL for a row that is not there or must not be embedded. A subquery a key keeps
-- the expressions' names apart from this statement's.
SELECT (
    SELECT {embed} FROM {only} {table} AS {alias} WHERE ({key}) = ({wanted})
)
FROM unnest({arrays}) WITH ORDINALITY AS walvec_wanted ({names}, walvec_position)
ORDER BY walvec_position

-- name: row_estimate
-- How many rows the table has, by its statistics; for a table never analysed, by its size.
SELECT coalesce(sum(
    CASE WHEN c.reltuples >= 0 THEN c.reltuples ELSE pg_relation_size(c.oid) / 200 END
), 0)::bigint
FROM pg_class AS c
WHERE c.oid = ANY (%(oids)s)

-- name: current_snapshot
-- Which transactions a read beginning now would see.
SELECT pg_current_snapshot()::text

-- name: horizon
-- Where the next WAL record will begin: whatever is visible by now ends at or before it.
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text

-- name: position
-- Which server this is, and since which promotion or restore. Everything committed before now lies before the LSN. A position just past a page header is where the next record
-- would begin; the last one ended before the header.
SELECT system_identifier, CASE
    WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
    ELSE ('x' || substr(pg_walfile_name(here), 1, 8))::bit(32)::integer
END AS timeline, CASE
    WHEN (here - '0/0'::pg_lsn) %% 8192 IN (24, 40) THEN here - (here - '0/0'::pg_lsn) %% 8192
    ELSE here
END AS lsn
FROM pg_control_system(), LATERAL (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END
) AS wal (here)
