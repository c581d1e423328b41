"""One table, its expressions and its target, checked against the catalog.

In reading order:

    row_shape      what planning needs to know about a table
    binding        a vectorizer and the table it is bound to
    source_sql     the statements that read that table
    bind           how the binding is found and proven
    expressions    whether `text` and `where` are functions of the row,
                   by `literals`, `deparsed` and `fitness`, in the words of `unfit`
    readable       whether walvec's role may read the rows
    creators       who may create objects where the expressions look up names
    target         the target table: its shape and its statements
    vector_index   the index over its vectors
    fingerprint    the settings that the vectors were made with
    admission      which vectorizers may follow their tables, and in which epoch
    preconditions  everything that must hold before walvec can work
"""
