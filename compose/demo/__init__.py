"""`make demo`: walvec's main job on real documents, told on one screen.

The story is in __main__; every number on the screen is measured, or read from walvec's own log and tables.
"""
