"""A version as a file to serve: exported, proven to answer alike, in the formats and variants that pay, in a Bento."""
