-- What the lock that makes a session a slot's one writer is called. Anybody who may connect can take an advisory lock, and
-- pg_locks shows to all which ones are held: so it has another name once somebody holds it who may not read this table.

CREATE TABLE walvec.fence (
    slot text   PRIMARY KEY,
    key  bigint NOT NULL
);
