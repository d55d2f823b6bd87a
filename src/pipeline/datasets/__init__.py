"""What becomes of a source: a table of faces, without what is doubtful, split without leaks."""
