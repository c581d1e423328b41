"""Sessions with the two databases, and the tables that walvec keeps in the target."""
