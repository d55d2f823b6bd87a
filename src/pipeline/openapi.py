"""What the endpoint promises, as OpenAPI 3.1: the content of `/docs.json`."""

from typing import Any

from pipeline.labels import LABELS

ERRORS = {
    "400": "an image, but empty, cut off or broken",
    "413": "too large, in bytes, pixels or images",
    "415": "no still image that can be read (JPEG, PNG, WebP and BMP can)",
    "422": "a wrong or missing field",
    "429": "too many requests at once",
    "503": "overloaded",
}
BINARY = {"type": "string", "format": "binary"}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
FACE = {
    "type": "object",
    "properties": {
        "box": {"type": "array", "items": {"type": "integer"}, "description": "x, y, width, height in pixels"},
        "score": {**SHARE, "description": "confidence of the detector"},
        "emotion": {"enum": list(LABELS)},
        "confidence": SHARE,
        "probabilities": {"type": "object", "properties": dict.fromkeys(LABELS, SHARE)},
        "top": {"type": "array", "description": "the likeliest labels with their probabilities"},
    },
}
SCHEMAS = {
    "Answer": {
        "type": "object",
        "properties": {
            "faces": {"type": "array", "items": FACE, "description": "the largest first; empty where none was found"},
            "note": {"type": "string", "description": "says so where no face was found"},
            "model": {"type": "object", "description": "name, version, and a warning where it is not for real use"},
        },
    },
    "Error": {"type": "object", "properties": {"error": {"type": "string"}}},
}


def describe(version: str) -> dict[str, Any]:
    """Return the OpenAPI document of the endpoint; `version` is the served model's."""
    one_or_error = {"anyOf": [_schema("Answer"), _schema("Error")]}
    answers = {"type": "object", "properties": {"answers": {"type": "array", "items": one_or_error}}}
    one = {"image/*": {"schema": BINARY}, "multipart/form-data": {"schema": _form("image", BINARY)}}
    several = {"multipart/form-data": {"schema": _form("images", {"type": "array", "items": BINARY})}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Facial-expression recognition", "version": version},
        "paths": {
            "/predict": {"post": _operation("The expressions on one image", one, _schema("Answer"))},
            "/predict_batch": {"post": _operation("Several images; a broken one fails alone", several, answers)},
            "/model": {"get": _card()},
            "/livez": {"get": {"summary": "The server lives", "responses": {"200": _ok("yes")}}},
            "/readyz": {"get": {"summary": "The model is loaded and warm", "responses": {"200": _ok("yes")}}},
            "/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": _ok("metrics")}}},
        },
        "components": {"schemas": SCHEMAS},
    }


def _operation(summary: str, content: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    detect = {"name": "detect", "in": "query", "schema": {"type": "boolean", "default": True}}
    errors = {
        status: {"description": text, "content": {"application/json": {"schema": _schema("Error")}}}
        for status, text in ERRORS.items()
    }
    return {
        "summary": summary,
        "parameters": [{**detect, "description": "false: each image is a ready crop of one face"}],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {**_ok("the answer"), "content": {"application/json": {"schema": answer}}}, **errors},
    }


def _card() -> dict[str, Any]:
    kinds = {"application/json": "object", "text/html": "string", "text/markdown": "string"}
    card = {**_ok("facts and card"), "content": {kind: {"schema": {"type": name}} for kind, name in kinds.items()}}
    none = {"description": "a page or Markdown is asked for, and the model has no card"}
    return {
        "summary": "Name, version, variant and facts of the live model, and its card, in the form that Accept names",
        "responses": {"200": card, "404": none},
    }


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [field], "properties": {field: schema}}


def _ok(description: str) -> dict[str, Any]:
    return {"description": description}
