-- An order for what acts beside the stream (epochs), and a record of what setup made (ownership).

ALTER TABLE walvec.checkpoint
    -- the last commit that the checkpoint covers: a source that sends others in its place went back in time
    ADD COLUMN commit_xid bigint,
    ADD COLUMN commit_end pg_lsn,
    -- the attachment that may write; a transaction of an earlier one finds another value here and writes nothing
    ADD COLUMN holder     uuid,
    -- what work in flight is waiting for, in the words of the process; null: it is not waiting
    ADD COLUMN waits_for  text;

-- The epoch: generation, owner (slot), fingerprint, identity and horizon. Whatever differs begins a new one.
ALTER TABLE walvec.vectorizer RENAME COLUMN source_state TO identity;
ALTER TABLE walvec.vectorizer
    -- the source's WAL insert position, read after the identity: a change that ends at or before it is read by key
    ADD COLUMN horizon pg_lsn NOT NULL DEFAULT '0/0',
    ADD CONSTRAINT vectorizer_target_table_key UNIQUE (target_table);

ALTER TABLE walvec.dead_letter
    -- the vectorizer's generation when the row was parked
    ADD COLUMN generation integer NOT NULL DEFAULT 0,
    -- when the row is tried again without being asked for; null: its cause does not pass by itself
    ADD COLUMN retry_at   timestamptz;

-- A key that is too long for an index entry is one reason to park its row, so rows are parked by a digest of theirs.
-- The cast is stable for arrays in general, and immutable for those of text.
CREATE FUNCTION walvec.digest(key text[]) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS 'SELECT pg_catalog.md5(key::pg_catalog.text)';
ALTER TABLE walvec.dead_letter
    ADD COLUMN digest text GENERATED ALWAYS AS (walvec.digest(key)) STORED,
    DROP CONSTRAINT dead_letter_pkey,
    ADD PRIMARY KEY (vectorizer, digest);

-- What walvec made, and so what it may alter and teardown may drop. It is recorded before it is made, so that a crash
-- leaves nothing behind that nobody answers for.
CREATE TABLE walvec.made (
    slot text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('slot', 'publication', 'schema', 'table', 'index')),
    name text NOT NULL,
    -- in the source for a publication; null: a slot, which has none, or something that may not have been made yet
    oid  oid,
    PRIMARY KEY (slot, kind, name)
);

-- Earlier versions recorded nothing: a slot with a checkpoint and the vectorizers' targets were made by them.
INSERT INTO walvec.made (slot, kind, name) SELECT slot, 'slot', slot FROM walvec.checkpoint;
INSERT INTO walvec.made (slot, kind, name) SELECT slot, 'table', target_table FROM walvec.vectorizer;
