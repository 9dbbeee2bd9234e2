"""One module per benchmark: ours and the plain way, in one process, on the same work."""
