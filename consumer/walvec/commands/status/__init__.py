"""`walvec status`: what is read, what it means, how it changes, how it is shown.

reading.py   both databases -> Report
counting.py  row counts with a time limit
verdict.py   Report -> one sentence: all is well, or what is wrong and how to fix it (pure)
trend.py     a series of Reports -> rates, lag in seconds, time to catch up, sparklines (pure)
words.py     all of it as text: cells, lines, a JSON document (pure)
view.py      the table for a terminal
show.py      the command
"""
