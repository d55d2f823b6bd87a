"""What may be asked beside an image: in a query, in a JSON body, or in the first message of a live session."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from pipeline.labels import LABELS

TOP = 3
LEAST_FPS, MOST_FPS = 0.1, 10.0
MOST_SMOOTHING = 10.0  # seconds
SHOWN = 20  # characters of a wrong value, in what is said of it

Form = Literal["overlay", "map", "json"]
Mirrored = Annotated[bool, Field(description="answer with the mean over each face and its mirror image")]
Smoothing = Annotated[
    float,
    Field(ge=0, le=MOST_SMOOTHING, description="time constant in seconds of the smoothing of probabilities; 0: none"),
]


class OptionError(ValueError):
    """An option that does not exist, or has a value that it can not have."""


class NoJsonError(ValueError):
    """Bytes that are no JSON."""


class FaceOptions(BaseModel):
    """Whether to look for faces."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    detect: Annotated[bool, Field(description="false: each image or frame is a ready crop of one face")] = True


class ExplainOptions(FaceOptions):
    """Which label to explain, and in which form."""

    label: Annotated[
        Literal[LABELS] | SkipJsonSchema[None],  # type: ignore[valid-type]
        Field(description="default: the likeliest"),
    ] = None
    form: Annotated[
        Form,
        Field(
            description="overlay: PNG of the image with the map on its face; map: grey PNG of the map alone; "
            "json: its numbers"
        ),
    ] = "overlay"


class ImageOptions(FaceOptions):
    """How to look at an image, and what to say of it."""

    top: Annotated[int, Field(ge=1, le=len(LABELS), description="how many of the likeliest labels `top` lists")] = TOP
    tta: Mirrored = False


class LiveOptions(ImageOptions):
    """How to look at the frames of a live session."""

    smoothing: Smoothing = 0.5


class VideoOptions(FaceOptions):
    """How to watch a video."""

    fps: Annotated[float, Field(ge=LEAST_FPS, le=MOST_FPS, description="frames a second that are looked at")] = 2.0
    smoothing: Smoothing = 0.5
    tta: Mirrored = False


Asked = TypeVar("Asked", bound=BaseModel)


def read_query(query: Mapping[str, str], kind: type[Asked]) -> Asked:
    """Return the options in a query; what it has besides is not looked at. Raises OptionError."""
    named = {name: query[name] for name in kind.model_fields if name in query}
    try:
        return kind.model_validate_strings(named, strict=False)
    except ValidationError as error:
        raise OptionError(_say(error, kind)) from error


def read_json(text: str | bytes, kind: type[Asked]) -> Asked:
    """Return what a JSON object says, every key of which must be known.

    Raises:
        OptionError: if it is JSON, and says something else.
        NoJsonError: if it is none.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        if error.errors(include_input=False)[0]["type"] == "json_invalid":
            raise NoJsonError("the JSON is broken or cut off") from error
        raise OptionError(_say(error, kind)) from error


def _say(error: ValidationError, kind: type[BaseModel]) -> str:
    """Say in a sentence what is wrong first."""
    first = error.errors()[0]
    if not first["loc"]:
        return f"the JSON must be an object with {', '.join(kind.model_fields)}"
    name = str(first["loc"][0])
    if first["type"] == "missing":
        return f"the field `{name}` is missing"
    if first["type"] == "extra_forbidden":
        return f"there is no option {name[:SHOWN]!r}; there is: {', '.join(kind.model_fields)}"
    return f"{name} must be {_wanted(kind.model_json_schema()['properties'][name])}, not {_shown(first['input'])}"


def _wanted(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    match schema["type"]:
        case "boolean":
            return "true or false"
        case "integer" | "number" as number:
            whole = "whole " if number == "integer" else ""
            return f"a {whole}number from {schema['minimum']:g} to {schema['maximum']:g}"
        case "array":
            return "a list of strings, one or more"
        case _:
            return "a string"


def _shown(value: Any) -> str:
    return repr(value[:SHOWN] if isinstance(value, str) else value)[: SHOWN + 2]
