"""What the endpoint promises for live sessions, as parts of its OpenAPI document, which knows no WebSockets."""

from typing import Any

from pipeline.serving.live import FULL, IDLE, REFUSED, TOO_LARGE, Limits
from pipeline.serving.openapi_video import COUNT

LIMITS = Limits()
ABOUT = {
    "frame": {**COUNT, "description": "number of the frame among those that came, from 1 on"},
    "time": {"type": "number", "description": "when it came: seconds from the start of the session"},
    "dropped": {**COUNT, "description": "how many have been dropped so far, as a later one came before their turn"},
}
DESCRIPTION = f"""With a WebSocket handshake this opens a session; a browser gets a page that does so with its camera.

The client sends binary messages, each a JPEG, PNG, WebP or BMP image. The first message may be a text with
LiveOptions. Each frame is answered by a text with a LiveAnswer, in order; where frames come faster than answers, the
latest one waits and those before it are dropped. One that can not be read is answered with `error` and the HTTP
status that it would have. When another model goes live, a session goes on with it: each answer names its own.

The service closes a session after {LIMITS.seconds:g} seconds (code 1000), for wrong options or a later text
({REFUSED}), a message of more than {LIMITS.megabytes:g} MB ({TOO_LARGE}), when {LIMITS.sessions} are open ({FULL}),
and after {LIMITS.idle:g} seconds without a message ({IDLE}); the reason says so."""


def live_answer(face: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an answer, made of those of a face and of an answer for one image."""
    track = {**COUNT, "description": "the same for one person, as far as a face could be followed"}
    followed = {**face, "properties": {"track": track, **face["properties"]}}
    faces = {"type": "array", "items": followed, "description": "the largest first; probabilities are smoothed"}
    failed = {"error": {"type": "string"}, "status": {"type": "integer"}}
    example_face = {"track": 1, **answer["example"]["faces"][0]}
    return {
        "type": "object",
        "properties": {**ABOUT, **answer["properties"], "faces": faces, **failed},
        "required": [*ABOUT],
        "example": {"frame": 7, "time": 0.412, "dropped": 1, **answer["example"], "faces": [example_face]},
    }


def live_operation(options: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Return the operation; the schemas of its messages are references."""
    return {
        "summary": "Frames of a camera, answered as they come (WebSocket), and a page that sends them",
        "description": DESCRIPTION,
        "responses": {
            "101": {"description": "the session is open", "x-messages": {"sent": options, "received": answer}},
            "200": {"description": "the page", "content": {"text/html": {"schema": {"type": "string"}}}},
        },
    }
