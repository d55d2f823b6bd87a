"""Images as base64 in a JSON body, beside the options that a query may have as well."""

import base64
import binascii
import re
from typing import Annotated, TypeVar

from pydantic import Field

from pipeline.inference.options import ImageOptions, NoJsonError, OptionError, read_json

# As browsers make it of a canvas or a file (RFC 2397); no other data: URL is taken.
DATA_URL = re.compile(r"data:[\w.+/-]*;base64,", re.ASCII | re.IGNORECASE)
ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*:", re.ASCII | re.IGNORECASE)  # base64 has no colon


class Body(ImageOptions):
    """A JSON body: its options count before those of the query."""

    def over(self, query: ImageOptions) -> ImageOptions:
        """Return the options of the query with those that the body has put over them."""
        told = self.model_fields_set & ImageOptions.model_fields.keys()
        return query.model_copy(update=self.model_dump(include=told))


class ImageBody(Body):
    """One image."""

    image: Annotated[str, Field(description="base64 of an image, or a data: URL of it; never an address")]


class BatchBody(Body):
    """Several images."""

    images: Annotated[list[str], Field(min_length=1, description="each is base64 of an image, or a data: URL of it")]


Sent = TypeVar("Sent", bound=Body)


def parse_body(body: bytes, kind: type[Sent]) -> Sent | None:
    """Return what a body says that is declared as JSON; None if it is none at all, but a raw image, say.

    Raises:
        OptionError: if it says something else than it should.
        NoJsonError: if it is an object that is broken or cut off.
    """
    try:
        return read_json(body, kind)
    except NoJsonError:
        if body.lstrip().startswith(b"{"):  # as no image does
            raise
        return None


def from_base64(image: str) -> bytes:
    """Return the bytes of an image that came as text.

    Args:
        image: standard base64 with its padding and without line breaks, alone or in a data: URL.

    Raises:
        OptionError: if it is an address, which nobody goes to, or no base64.
    """
    url = DATA_URL.match(image)
    if url is None and ADDRESS.match(image):
        raise OptionError("an image must be sent itself, as base64; addresses are not fetched")
    try:
        return base64.b64decode(image[url.end() :] if url else image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise OptionError("an image is no base64 (standard alphabet, padded, without line breaks)") from error
