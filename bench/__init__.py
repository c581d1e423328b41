"""How fast walvec is, measured beside something that bounds it. `make bench` runs all parts."""
