"""Settings of a service that one variable of the environment holds, as JSON."""

import os
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import PipelineError

Settings = TypeVar("Settings", bound=BaseModel)


def load_settings(variable: str, kind: type[Settings]) -> Settings:
    """Return the settings, with what the variable changes in them; raises PipelineError if it holds no such thing."""
    try:
        return kind.model_validate_json(os.environ.get(variable) or "{}")
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise PipelineError(f"{variable}: {key + ': ' if key else ''}{first['msg']}") from error
