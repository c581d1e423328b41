"""`walvec status`, in parts: what is read, what it means, how it moves, how it is shown.

    reading.py   both databases -> Report
    verdict.py   Report -> one sentence: all is well, or what is wrong and what mends it (pure)
    trend.py     Reports in time -> rates, lag in seconds, time to catch up, sparklines (pure)
    words.py     all of it in words: cells, lines, a document for programs (pure)
    view.py      the table for eyes

walvec.commands.status.show puts them together.
"""
