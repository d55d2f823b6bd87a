"""Deciding which version is the champion: what is known of a candidate, the gate, and what comes of its decision."""
