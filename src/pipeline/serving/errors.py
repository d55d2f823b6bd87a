"""What keeps a request from being answered that is no fault of its own."""


class OverloadedError(Exception):
    """The network cannot take the request now."""
