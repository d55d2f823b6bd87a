"""Which of several representations a request asks for, by its Accept header (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str:
    """Return the media type that is wanted most; the first one where several are wanted alike, or none is.

    Args:
        accept: the header's value; what can not be read in it does not count.
        offered: media types, such as `text/html`.
    """
    wanted = dict(filter(None, map(_read, accept.split(","))))

    def quality(kind: str) -> float:
        # The most telling range counts, and not the one that gives most.
        return next((wanted[name] for name in (kind, f"{kind.split('/')[0]}/*", "*/*") if name in wanted), 0.0)

    return max(offered, key=quality)


def _read(entry: str) -> tuple[str, float] | None:
    kind, *parameters = (part.strip().lower() for part in entry.split(";"))
    quality = next((value for name, _, value in (part.partition("=") for part in parameters) if name == "q"), "1")
    try:
        return kind, float(quality)
    except ValueError:
        return None
