"""Sessions with the two databases, and the tables that walvec keeps in the target.

In reading order:

    connect       opens every session, with the settings that the guarantees rest on
    silence       a session that hangs up on a server gone silent
    waiting       what a session's statement waits for
    pgvector      where pgvector is, and how vectors are sent
    keys          keys in SQL, whatever their number and types
    snapshot      what a snapshot of the database sees
    migrate       walvec's schema: created, brought up to date, checked
    ownership     what walvec made, and what it must not touch
    checkpoint    how far a slot's changes are embedded
    registry      the vectorizers that the target knows, and their epochs
    dead_letters  parked rows
    continuity    whether slot, checkpoint and server still belong together
    promotion     where a promoted server left the old timeline
    standbys      whether a promoted standby could go on with the slot
    slot_making   how slots are created, as [source] failover says
    fence         one writer for a slot
"""
