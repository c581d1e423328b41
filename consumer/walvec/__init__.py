"""walvec keeps pgvector embeddings in step with PostgreSQL tables.

A change passes these rooms, in this order:

    walvec_slots  reads it from the slot and decodes it
    stages        plan, evaluate, cut, compare, embed, write, confirm it: one module a stage
    vectorizer    knows its table: bound columns, expressions, the target
    embed         turns its texts into vectors, through one of the providers
    database      keeps what survives a crash: sessions, fence, checkpoint, dead letters

Around them:

    attach, pipeline, watch, supervise  what has to be so first, the stages joined, what changes beside the
                                        stream, the process
    policy, errors                      what to do about a failure
    config                              the settings
    observe                             logs, metrics, probes, traces
    commands, cli                       what an operator runs
    units, failpoint                    numbers in words, places for a test to crash
"""
