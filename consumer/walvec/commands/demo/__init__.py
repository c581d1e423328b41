"""`walvec demo`: walvec's main job on real documents, shown on one screen.

    show        from its preparation to its end
    story       what is shown, in order
      blog        the table and its posts, out of Python's own documentation
      edits       one edit at a time, watched until a search would find it
      burst       many edits, in the middle of which walvec is killed
      proof       what the target has to hold, against what it holds
      screen      how all of it is printed
    sidecar     the real walvec, as a process
    server      the demo's database on a server
    embedded    a private PostgreSQL, out of a package's programs
    workplace   the folder of both processes, and the watchdog that clears it away

Every number on the screen is measured, or read from walvec's own log and tables.
"""
