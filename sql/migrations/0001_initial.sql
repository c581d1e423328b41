-- walvec's own tables, in the target database. They are written in the same transaction as the vectors.

CREATE TABLE walvec.checkpoint (
    slot              text        PRIMARY KEY,
    system_identifier bigint      NOT NULL,
    -- which of the server's histories the LSNs are of: a promotion and a restore begin a new one
    timeline          integer     NOT NULL,
    -- the commit end through which everything is embedded; the slot is told no more than this
    lsn               pg_lsn      NOT NULL,
    -- decoded transactions (low 32 bits of their ids) that no snapshot had been seen to contain
    unseen_xids       bigint[]    NOT NULL DEFAULT '{}',
    updated_at        timestamptz NOT NULL DEFAULT now(),
    -- since when work is in flight and none of it gets done; null: it does
    stalled_since     timestamptz
);

CREATE TABLE walvec.vectorizer (
    name              text        PRIMARY KEY,
    slot              text        NOT NULL,
    source_table      text        NOT NULL,
    target_table      text        NOT NULL,
    -- what the vectors in the target were made with: expressions, chunking, model
    fingerprint       jsonb       NOT NULL,
    -- what the source table was when it was last read in full: identities, files, publication
    source_state      jsonb       NOT NULL DEFAULT '{}',
    -- how far this vectorizer's changes are applied, where that is past the checkpoint
    lsn               pg_lsn,
    -- rows: the source is read by key; sweep: target keys are looked up in the source; index: built; done
    phase             text        NOT NULL DEFAULT 'rows' CHECK (phase IN ('rows', 'sweep', 'index', 'done')),
    -- counts the times it began from the first key, so that a process notices that it was asked to
    generation        integer     NOT NULL DEFAULT 1,
    last_key          text[],
    -- whether target keys are to be looked up in the source: it may have lost some without a word in the stream
    sweeps            boolean     NOT NULL DEFAULT true,
    rows_done         bigint      NOT NULL DEFAULT 0,
    rows_estimated    bigint,
    started_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    -- why its changes are not applied at present; null: they are
    paused            text
);

CREATE TABLE walvec.dead_letter (
    vectorizer    text        NOT NULL REFERENCES walvec.vectorizer (name) ON DELETE CASCADE,
    key           text[]      NOT NULL,
    lsn           pg_lsn,
    stage         text        NOT NULL,
    error_class   text        NOT NULL,
    error_message text        NOT NULL,
    attempts      integer     NOT NULL DEFAULT 1,
    first_at      timestamptz NOT NULL DEFAULT now(),
    last_at       timestamptz NOT NULL DEFAULT now(),
    -- asked for by `walvec dead-letter retry`; the process takes it up, and it ends with the next attempt
    retry         boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (vectorizer, key)
);
