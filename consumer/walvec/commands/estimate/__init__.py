"""`walvec check --estimate`: a sample of rows becomes requests, time and money."""
