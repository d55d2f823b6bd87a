"""Watching a served model by the log of its answers: drift, and what accuracy may have become."""
