-- pgoutput sends the rows of a table that joined a publication only to some of the transactions open at that moment.

ALTER TABLE walvec.vectorizer
    -- an id past every transaction of the source that was open when the epoch began: its rows are read once all before
    -- it have ended; null: at once
    ADD COLUMN waits_for_xid bigint;
