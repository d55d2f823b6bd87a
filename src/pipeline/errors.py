"""The one exception that a person is meant to read."""


class PipelineError(Exception):
    """Something a person can mend: the message names the key, file or row, what was expected, and what to do."""
