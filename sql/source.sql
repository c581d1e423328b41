-- Reads of the source database. Nothing here writes, locks or creates anything.
-- {table} is the vectorizer's table and {alias} its bare name, which the expressions use for the row; {embed} is the
-- vectorizer's `text` under its `where` and the publication's row filter. {key} is compared and sorted by the operators
-- of its index.
--
-- The expressions are the user's, and their names are looked up in [source] search_path. They are part of these
-- statements, so everything else here has its schema: a function or operator of the same name, planted in a schema
-- where others may create, must not be taken for PostgreSQL's own.

-- name: resolve_expressions
-- From here on, look up the names in expressions in [source] search_path: in this transaction, or in this session.
SELECT pg_catalog.set_config(
    'search_path', coalesce(pg_catalog.current_setting('walvec.search_path', true), 'pg_catalog, pg_temp'), %(local)s
)

-- name: evaluate_images
-- Evaluate the expressions on row images, in the order given. Every read below uses the same expressions, so the stream
-- and the backfill give equal text, byte for byte. The images have only the columns that the expressions use, in the
-- types under their domains, because a domain's checks are its owner's code. OFFSET 0 reads a text once, however often
-- its column is named.
SELECT {embed} FROM (
    SELECT {image} FROM {image_values} AS walvec_image ({image_names}) OFFSET 0
) AS {alias}

-- name: reads_back
-- Whether a cast from text to each of these types does what its input function does. A user-defined cast may do
-- anything, and the cast to regclass looks a name up.
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_cast AS c
    WHERE c.castsource OPERATOR(pg_catalog.=) 'pg_catalog.text'::pg_catalog.regtype
        AND c.casttarget OPERATOR(pg_catalog.=) ANY (%(oids)s::pg_catalog.oid[])
        AND c.castmethod OPERATOR(pg_catalog.=) 'f'
        AND (
            c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
            OR c.casttarget OPERATOR(pg_catalog.=) 'pg_catalog.regclass'::pg_catalog.regtype
        )
)

-- name: is_embedded
-- Whether a row is to be embedded, if it has a text. The line breaks end a comment at the expression's end.
(
{filter}
) AND (
{where}
)

-- name: embed_expression
-- The row's text; NULL for a row that must not be embedded.
CASE WHEN {is_embedded} THEN (
{text}
)::pg_catalog.text END

-- name: used_columns
-- Ask the planner which columns the expressions use. The fence (OFFSET 0) keeps the inner SELECT apart, and the planner
-- replaces each of its columns that nothing above reads by NULL. The last column is read where the whole row is.
EXPLAIN (VERBOSE, FORMAT JSON, COSTS OFF)
SELECT {embed} FROM (
    SELECT *, 0 AS walvec_row FROM pg_catalog.json_populate_recordset(NULL::{table}, '[]') AS {alias} OFFSET 0
) AS {alias}

-- name: limited
-- The rows of another statement, in its order. A text that is too long to come together with others is left out, and
-- the last column says so. OFFSET 0 evaluates the text once, however often it is named here.
SELECT {keys}
    CASE WHEN pg_catalog.octet_length(walvec_text) OPERATOR(pg_catalog.<=) %(longest)s THEN walvec_text END,
    pg_catalog.octet_length(walvec_text) OPERATOR(pg_catalog.>) %(longest)s
FROM (
{rows}
OFFSET 0
) AS walvec_row ({keys}walvec_text)

-- name: rows_from_start
-- The first rows in key order, with their text.
SELECT {key}, {embed} FROM {only} {table} AS {alias}
ORDER BY {key_order} LIMIT %(limit)s

-- name: rows_after
-- The next rows after a key, in key order, with their text.
SELECT {key}, {embed} FROM {only} {table} AS {alias}
WHERE {follows}
ORDER BY {key_order} LIMIT %(limit)s

-- name: keys_from_start
-- The first keys without text, for a range in which the expression fails on some row.
SELECT {key} FROM {only} {table} AS {alias}
ORDER BY {key_order} LIMIT %(limit)s

-- name: keys_after
SELECT {key} FROM {only} {table} AS {alias}
WHERE {follows}
ORDER BY {key_order} LIMIT %(limit)s

-- name: try_to_read
-- Read nothing, but require every right that a read requires.
EXPLAIN SELECT {key}, {embed} FROM {only} {table} AS {alias}

-- name: rows_by_key
-- The row's own key and its text for each key, in the order given: NULL where there is no row, or no text to embed. The
-- row's key equals the one asked for, and may be spelled differently. A subquery for each key keeps the names of the
-- expressions apart from this statement's.
SELECT walvec_found.*
FROM {keys} WITH ORDINALITY AS walvec_wanted ({names}, walvec_position)
LEFT JOIN LATERAL (
    SELECT {key}, {embed} FROM {only} {table} AS {alias} WHERE {wanted}
) AS walvec_found ({names}, walvec_text) ON true
ORDER BY walvec_position

-- name: keys_as_typed
-- The keys in the types of the table's key columns; an error where one is not a value of its type.
SELECT {typed} FROM {keys} AS walvec_wanted ({names})

-- name: keys_gone
-- Those of the keys, in the order given, that have no row to embed. The text itself is not evaluated. A subquery
-- evaluates `is_embedded` on the key's own row alone, which a condition in WHERE would not guarantee.
SELECT {names} FROM (
    SELECT walvec_wanted.*, (
        SELECT {is_embedded} FROM {only} {table} AS {alias} WHERE {wanted}
    ) AS walvec_is_embedded
    FROM {keys} WITH ORDINALITY AS walvec_wanted ({names}, walvec_position)
) AS walvec_key
WHERE walvec_is_embedded IS NOT TRUE
ORDER BY walvec_position

-- name: row_estimate
-- How many rows the table has by its statistics, or by its size if it was never analysed.
SELECT coalesce(pg_catalog.sum(
    CASE WHEN c.reltuples OPERATOR(pg_catalog.>=) 0 THEN c.reltuples
        ELSE pg_catalog.pg_relation_size(c.oid) OPERATOR(pg_catalog./) 200 END
), 0)::bigint
FROM pg_catalog.pg_class AS c
WHERE c.oid OPERATOR(pg_catalog.=) ANY (%(oids)s)

-- name: current_snapshot
-- The snapshot of a read that begins now: which transactions it would see.
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text

-- name: open_transactions
-- A snapshot, and the ids (32 bits) of all open transactions that have one, prepared ones included.
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text, ARRAY(
    SELECT l.transactionid::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_locks AS l
    WHERE l.locktype OPERATOR(pg_catalog.=) 'transactionid' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'
        AND l.granted
)

-- name: server
-- Which server this primary is, and on which timeline it writes.
SELECT system_identifier, pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)
FROM pg_catalog.pg_control_system()

-- name: horizon
-- Where the next WAL record will begin. Everything that is visible now ends at or before it.
SELECT (
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
        ELSE pg_catalog.pg_current_wal_insert_lsn() END
)::pg_catalog.text

-- name: position
-- Which server this is, and its timeline, which a promotion or a restore changes. Everything committed before now ends
-- at or before the LSN. A position just past a page header is where the next record would begin; the last record ended
-- before that header.
SELECT system_identifier, CASE
    WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())
    ELSE (
        'x' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.pg_walfile_name(here), 1, 8)
    )::bit(32)::integer
END AS timeline, CASE
    WHEN into_page OPERATOR(pg_catalog.=) ANY (ARRAY[24, 40]::numeric[]) THEN here OPERATOR(pg_catalog.-) into_page
    ELSE here
END AS lsn
FROM pg_catalog.pg_control_system(), LATERAL (
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
        ELSE pg_catalog.pg_current_wal_insert_lsn() END
) AS wal (here), LATERAL (
    SELECT (here OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn) OPERATOR(pg_catalog.%%) 8192::numeric
) AS page (into_page)
