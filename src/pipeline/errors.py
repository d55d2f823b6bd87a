"""The one kind of error that a person is meant to read, and those of these that code tells apart."""

import difflib
from collections.abc import Iterable


class PipelineError(Exception):
    """Something that a person can mend; the message is one line: what is wrong, where, and what to do."""

    def __init__(self, sentence: str) -> None:
        """Keep the sentence, on one line even where a name in it has several."""
        super().__init__(" ".join(sentence.splitlines()))


class ValuesError(PipelineError):
    """Values that each may stand in a recipe, but not together, or not with what the version starts from."""


class NotFiniteError(PipelineError):
    """A loss is not a finite number: what its recipe asks for can not be trained."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the known word nearest to another one; empty where none is near."""
    near = difflib.get_close_matches(word.lower(), sorted(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
