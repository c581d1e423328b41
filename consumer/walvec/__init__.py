"""What a change becomes: planned, evaluated, chunked, embedded, written, confirmed."""
