"""`walvec init`: what it proposes and what it writes."""
