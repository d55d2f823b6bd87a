"""The one kind of error that a person is meant to read."""


class PipelineError(Exception):
    """Something that a person can mend; the message is one line: what is wrong, where, and what to do."""

    def __init__(self, sentence: str) -> None:
        """Keep the sentence, on one line even where a name in it has several."""
        super().__init__(" ".join(sentence.splitlines()))
