"""One table, its expressions and its target, checked against the catalog."""
