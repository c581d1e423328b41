-- A replica identity without the generated column `digest`, which the primary key has. From PostgreSQL 18 on a table in
-- a publication FOR ALL TABLES, whosever that is, cannot be updated otherwise.

ALTER TABLE walvec.dead_letter
    ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,
    ADD CONSTRAINT dead_letter_number_key UNIQUE (number);
ALTER TABLE walvec.dead_letter REPLICA IDENTITY USING INDEX dead_letter_number_key;
