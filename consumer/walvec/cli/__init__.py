"""The words of each command become values; errors become exit codes."""
