"""What the endpoint promises, as OpenAPI 3.1: the content of `/docs.json`."""

from typing import Any

from pipeline.inference.options import ExplainOptions, FaceOptions, ImageOptions, VideoOptions
from pipeline.labels import LABELS
from pipeline.serving.openapi_live import live_answer, live_operation
from pipeline.serving.openapi_options import BODIES, parameters
from pipeline.serving.openapi_video import EXAMPLE, SHARE, VIDEO_ANSWER

ERRORS = {
    "400": "an image, video or JSON, but empty, cut off or broken",
    "401": "no key, or none of this service's, where it asks for one",
    "403": "the service has no keys, and the client is not of its own machine",
    "408": "the upload did not arrive in time",
    "413": "too large, in bytes, pixels, images, frames or seconds",
    "415": "nothing that can be read (JPEG, PNG, WebP and BMP can as still images, MP4 and WebM as videos)",
    "422": "a wrong or missing field or parameter",
    "429": "too many requests in this time; Retry-After says when to come back",
    "503": "overloaded; Retry-After says when to come back",
}
BINARY = {"type": "string", "format": "binary"}
BOX = {"type": "array", "items": {"type": "integer"}, "description": "x, y, width, height in pixels"}
FACE = {
    "type": "object",
    "required": ["box", "score", "emotion", "confidence", "probabilities", "top"],
    "properties": {
        "box": BOX,
        "score": {**SHARE, "description": "confidence of the detector"},
        "emotion": {"enum": list(LABELS)},
        "confidence": SHARE,
        "probabilities": {"type": "object", "required": [*LABELS], "properties": dict.fromkeys(LABELS, SHARE)},
        "top": {
            "type": "array",
            # Not `prefixItems`: tools of OpenAPI, Schemathesis among them, take it for what it was in older drafts.
            "items": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {"anyOf": [{"enum": list(LABELS)}, SHARE]},
            },
            "description": "the likeliest labels with their probabilities",
        },
    },
}
ANSWER = {
    "type": "object",
    "required": ["faces", "model"],
    "properties": {
        "faces": {"type": "array", "items": FACE, "description": "the largest first; empty where none was found"},
        "note": {"type": "string", "description": "says so where no face was found"},
        "model": {"type": "object", "description": "name, version, and a warning where it is not for real use"},
    },
    "example": {
        "faces": [
            {
                "box": [86, 51, 168, 168],
                "score": 0.99,
                "emotion": "happy",
                "confidence": 0.93,
                "probabilities": dict(zip(LABELS, (0.01, 0.0, 0.01, 0.93, 0.03, 0.01, 0.01), strict=True)),
                "top": [["happy", 0.93], ["neutral", 0.03], ["angry", 0.01]],
            }
        ],
        "model": {"name": "expression-classifier", "version": "3"},
    },
}
EXPLANATION = {
    "type": "object",
    "required": ["label", "probability", "box", "map", "model"],
    "properties": {
        "label": {"enum": list(LABELS)},
        "probability": SHARE,
        "box": BOX,
        "map": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number"}},
            "description": "rows from top to bottom: what each place of the face adds to the label's logit",
        },
        "model": {"type": "object"},
    },
    "example": {
        "label": "happy",
        "probability": 0.93,
        "box": [86, 51, 168, 168],
        "map": [[-0.1, -0.2, -0.1], [0.3, 1.4, 0.2], [0.8, 2.6, 0.7]],
        "model": {"name": "expression-classifier", "version": "3"},
    },
}
EXPLANATION_HEADERS = {
    "expression-label": "happy",
    "expression-probability": "0.9300",
    "face-box": "86,51,168,168",
    "model-name": "expression-classifier",
    "model-version": "3",
}
KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
SCHEMAS = {
    "Answer": ANSWER,
    "LiveAnswer": live_answer(FACE, ANSWER),
    **BODIES,
    "Explanation": EXPLANATION,
    "VideoAnswer": VIDEO_ANSWER,
    "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
}


def describe(version: str) -> dict[str, Any]:
    """Return the OpenAPI document of the endpoint; `version` is the served model's."""
    one_or_error = {"anyOf": [_schema("Answer"), _schema("Error")]}
    answers = {"type": "object", "properties": {"answers": {"type": "array", "items": one_or_error}}}
    one = {"image/*": {"schema": BINARY}, "multipart/form-data": {"schema": _form("image", BINARY)}}
    one_of_json = {"application/json": {"schema": _schema("ImageBody")}}
    several = {
        "multipart/form-data": {"schema": _form("images", {"type": "array", "items": BINARY})},
        "application/json": {"schema": _schema("BatchBody")},
    }
    video = {"video/*": {"schema": BINARY}, "multipart/form-data": {"schema": _form("video", BINARY)}}
    summary = "The expressions in one video (MP4, WebM), followed in time"
    watch = _operation(summary, VideoOptions, video, _schema("VideoAnswer"))
    watch["responses"]["200"]["content"]["application/json"]["example"] = EXAMPLE
    return {
        "openapi": "3.1.0",
        "info": {"title": "Facial-expression recognition", "version": version},
        "paths": {
            "/predict": {
                "post": _operation("The expressions on one image", ImageOptions, one | one_of_json, _schema("Answer"))
            },
            "/predict_batch": {
                "post": _operation("Several images; a broken one fails alone", ImageOptions, several, answers)
            },
            "/predict_video": {"post": watch},
            "/explain": {"post": _explain(one)},
            "/live": {"get": live_operation(_schema("LiveOptions"), _schema("LiveAnswer"))},
            "/model": {"get": _card()},
            "/livez": {"get": {"summary": "The server lives", "responses": {"200": _ok("yes")}}},
            "/readyz": {"get": {"summary": "The model is loaded and warm", "responses": {"200": _ok("yes")}}},
            "/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": _ok("metrics")}}},
        },
        "components": {"schemas": SCHEMAS, "securitySchemes": KEY_SCHEMES},
        "security": [{}, *({name: []} for name in KEY_SCHEMES)],
    }


def _operation(
    summary: str, options: type[FaceOptions], content: dict[str, Any], answer: dict[str, Any]
) -> dict[str, Any]:
    errors = {
        status: {"description": text, "content": {"application/json": {"schema": _schema("Error")}}}
        for status, text in ERRORS.items()
    }
    return {
        "summary": summary,
        "parameters": parameters(options),
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


def _explain(content: dict[str, Any]) -> dict[str, Any]:
    summary = "Which places of the largest face spoke for a label"
    operation = _operation(summary, ExplainOptions, content, _schema("Explanation"))
    answer, responses = operation["responses"]["200"], operation["responses"]
    answer["description"] = "a picture whose headers name what it shows, or JSON"
    answer["content"]["image/png"] = {"schema": BINARY}
    answer["headers"] = {
        name: {"schema": {"type": "string"}, "example": example} for name, example in EXPLANATION_HEADERS.items()
    }
    responses["422"] = {**responses["422"], "description": "a wrong or missing field, or no face on the image"}
    responses["501"] = {**responses["422"], "description": "the model that is served can not explain its answers"}
    return operation


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [field], "properties": {field: schema}}


def _ok(description: str) -> dict[str, Any]:
    return {"description": description}
