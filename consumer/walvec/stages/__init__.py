"""The stages that a change passes, one module each.

    stage      | in -> out                                        | pure?
    intake     | frames -> messages, routed                       | no
    route      | messages -> actions in lanes, the ledger         | yes
    plan       | change -> actions by key                         | yes
    lane       | actions -> segments, prepared and committed      | no
    texts      | segment -> slices of rows with their texts       | no
    evaluate   | images, keys -> texts, by PostgreSQL             | no
    chunk      | text -> chunks and their hashes                  | yes
    compare    | chunks, held hashes -> what differs              | yes
    prepare    | segment -> batches: evaluate, cut, compare, embed| no
    commit     | batch -> the target, with its position           | no
    write      | batch, position -> one transaction               | no
    confirm    | checkpoint -> what the slot may be told          | no
    backfill   | existing rows -> actions in a lane               | no
    drain      | what is in flight -> finished, within limits     | no

What they share:

    actions, segment, batch  what is handed from stage to stage
    visibility               what a read has to see
    landmark, lag            which commits the checkpoint covers, and the age of those that it does not
    memory                   how many bytes may be in memory
    parking, isolate         rows that cannot be embedded, and how they are found
    stall, obstacles         how long work has waited, and why
    timing, stopwatch        how long everything may wait, and how long it took
    vitals                   how an attachment is doing
"""
