-- The target tables: what is written, and what is looked up on the way.
-- {key} are the key's columns; {cast_key} is what is staged as text, cast to their types. {vector} and {operator_class}
-- are written with pgvector's schema, {pgvector}. A key is compared and sorted by its index's operators.

-- name: create_target
CREATE TABLE IF NOT EXISTS {target} (
    {key_columns},
    chunk_seq    integer     NOT NULL,
    chunk        text        NOT NULL,
    embedding    {vector}    NOT NULL,
    input_hash   bytea       NOT NULL,
    embedded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ({key}, chunk_seq)
)

-- name: create_extension
CREATE EXTENSION IF NOT EXISTS vector SCHEMA public

-- name: target_columns
-- The target's columns as they are. No row: there is no such table.
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute AS a
WHERE a.attrelid = to_regclass(%(target)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: foreign_domains
-- Which of these types are domains whose owner is neither a superuser nor this role.
SELECT name FROM unnest(%(types)s::text[]) AS name
JOIN pg_type AS t ON t.oid = to_regtype(name)
JOIN pg_roles AS r ON r.oid = t.typowner
WHERE t.typtype = 'd' AND NOT r.rolsuper AND r.rolname <> current_user

-- name: change_vector_type
-- The vectors of two models must never be mixed, so the table is emptied before: USING NULL fails where it is not.
ALTER TABLE {target} ALTER COLUMN embedding TYPE {vector} USING NULL::{vector}

-- name: empty_target
TRUNCATE {target}

-- name: create_staging
-- Rows on their way in, in the writer's session. Where a vector is NULL, the target's own for that hash is used.
CREATE TEMPORARY TABLE IF NOT EXISTS {staging} (
    {staged_columns},
    chunk_seq  integer NOT NULL,
    chunk      text    NOT NULL,
    embedding  {pgvector}.vector,
    input_hash bytea   NOT NULL
) ON COMMIT DELETE ROWS

-- name: fill_staging
COPY {staging} FROM STDIN (FORMAT binary)

-- name: upsert_chunks
-- Reads the target as it was before the statement, so a vector can move from one chunk_seq to another.
INSERT INTO {target} AS t ({key}, chunk_seq, chunk, embedding, input_hash, embedded_at)
SELECT {cast_key}, s.chunk_seq, s.chunk, coalesce(s.embedding::{vector}, held.embedding), s.input_hash,
    coalesce(held.embedded_at, now())
FROM {staging} AS s
LEFT JOIN LATERAL (
    SELECT o.embedding, o.embedded_at FROM {target} AS o
    WHERE s.embedding IS NULL AND {held_key} AND o.input_hash = s.input_hash
    LIMIT 1
) AS held ON true
ON CONFLICT ({key}, chunk_seq) DO UPDATE SET
    chunk = EXCLUDED.chunk, embedding = EXCLUDED.embedding, input_hash = EXCLUDED.input_hash,
    embedded_at = EXCLUDED.embedded_at

-- name: delete_chunks
-- Delete a key's chunks from a sequence number on: 0 for all of them, otherwise the surplus of a text that got shorter.
DELETE FROM {target} AS t USING unnest({arrays}, %(first)s::integer[]) AS gone ({names}, first)
WHERE {gone_key} AND t.chunk_seq >= gone.first

-- name: delete_all_chunks
DELETE FROM {target}

-- name: existing_chunks
-- What the target holds of these keys: the position of the key in the list, then its chunks' hashes. A key equal to one
-- that is about to be deleted is left out.
SELECT wanted.position::integer, t.chunk_seq, t.input_hash
FROM unnest({arrays}) WITH ORDINALITY AS wanted ({names}, position)
JOIN {target} AS t ON {wanted_key}
WHERE NOT EXISTS (SELECT FROM unnest({gone_arrays}) AS gone ({names}) WHERE {gone_key})
ORDER BY wanted.position, t.chunk_seq

-- name: target_keys_from_start
SELECT DISTINCT {key} FROM {target} AS t ORDER BY {key_order} LIMIT %(limit)s

-- name: target_keys_after
SELECT DISTINCT {key} FROM {target} AS t WHERE {follows} ORDER BY {key_order} LIMIT %(limit)s

-- name: target_is_empty
SELECT NOT EXISTS (SELECT FROM {target})

-- name: target_indexes
-- The target's indexes, and which of them serve a search by the given operator class: hnsw, over every row's embedding.
-- An invalid one was left half built by a crash; one of another operator class is for another metric.
SELECT
    i.indexrelid AS oid, n.nspname AS schema, c.relname AS name,
    coalesce(
        i.indisvalid AND am.amname = 'hnsw' AND o.opcname = %(operator_class)s AND a.attname = 'embedding'
            AND i.indnkeyatts = 1 AND i.indpred IS NULL,
        false
    ) AS serves
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_am AS am ON am.oid = c.relam
JOIN pg_opclass AS o ON o.oid = i.indclass[0]
LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = %(target)s::regclass

-- name: taken_names
-- Which of these names are taken in the schema.
SELECT c.relname::text
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s::text AND c.relname = ANY (%(names)s::text[])

-- name: slot_of_target
SELECT slot FROM walvec.vectorizer WHERE target_table = %(target)s

-- name: index_oid
SELECT to_regclass(%(index)s)::oid

-- name: create_index
CREATE INDEX CONCURRENTLY {index} ON {target} USING hnsw (embedding {operator_class})

-- name: drop_index
DROP INDEX IF EXISTS {index}

-- name: search
-- Nearest chunks first. The index serves `embedding <=> query` and its like.
SELECT {key}, chunk_seq, chunk, embedding {operator} %(query)s::{vector} AS distance
FROM {target} AS t
ORDER BY embedding {operator} %(query)s::{vector}
LIMIT %(limit)s

-- name: search_widely
-- Until the transaction ends, let an index look at as many candidates as are wanted. The parameter of type vector loads
-- pgvector before its settings are listed, so that only those are set which its version has.
SELECT set_config(s.name, CASE s.name
    WHEN 'hnsw.ef_search' THEN greatest(s.setting::integer, least(%(limit)s::integer, s.max_val::integer))::text
    ELSE 'strict_order'
END, true)
FROM pg_settings AS s
WHERE s.name IN ('hnsw.ef_search', 'hnsw.iterative_scan') AND %(query)s::{vector} IS NOT NULL

-- name: search_exactly
-- Compare every vector, until the transaction ends.
SELECT set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'on', true)

-- name: coverage
-- How many rows have an embedding, in how many chunks.
SELECT count(*) FILTER (WHERE chunk_seq = 0) AS rows, count(*) AS chunks FROM {target}

-- name: embedded_since
-- How many chunks have got their vector since a backfill began.
SELECT count(*) FROM {target} WHERE embedded_at >= %(since)s
