"""The options of images and live sessions, JSON bodies and live answers, as parts of the OpenAPI document."""

from typing import Any

from pydantic import BaseModel

from pipeline.inference.options import LiveOptions
from pipeline.serving.bodies import BatchBody, ImageBody


def parameters(options: type[BaseModel]) -> list[dict[str, Any]]:
    """Return the options as parameters of a query."""
    return [
        {"name": name, "in": "query", "schema": schema, "description": schema.pop("description")}
        for name, schema in _properties(options).items()
    ]


def _properties(kind: type[BaseModel]) -> dict[str, dict[str, Any]]:
    properties = kind.model_json_schema()["properties"]
    return {
        name: {key: value for key, value in schema.items() if key != "title" and value is not None}
        for name, schema in properties.items()
    }


def _schema(kind: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a JSON object, without pydantic's titles, and defaults that are nothing."""
    required = [name for name, field in kind.model_fields.items() if field.is_required()]
    schema = {"type": "object", "properties": _properties(kind), "additionalProperties": False, "example": example}
    return schema | ({"required": required} if required else {})


BODIES = {
    "ImageBody": _schema(ImageBody, {"image": "/9j/4AAQSkZJRgABAQ...", "detect": False, "top": 7}),
    "BatchBody": _schema(BatchBody, {"images": ["/9j/4AAQSkZJRgABAQ...", "data:image/png;base64,iVBORw0KGgo..."]}),
    "LiveOptions": _schema(LiveOptions, {"smoothing": 1.0}),
}
