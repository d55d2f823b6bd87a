"""A coarse level for a clip by the share of negative expressions in it: a rule to screen with, never a diagnosis.

The rule is not fitted to anything and was tested on nobody. Its numbers are choices, to be made by who uses it: the
variable `FER_SCREENING` holds those that differ, as JSON, such as {"elevated": 0.5, "least_faces": 20}.
"""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.inference.environment import load_settings
from pipeline.labels import LABELS

VARIABLE = "FER_SCREENING"
LEVELS = ("low", "elevated", "high")
NOTICE = (
    "This is no diagnosis: it counts expressions that a network read in pictures, which are not feelings, and it was "
    "validated on nobody's health."
)


class Rule(BaseModel):
    """The level is `high` from one share of negative expressions on, `elevated` from another, else `low`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    negative: tuple[str, ...] = ("angry", "disgust", "fear", "sad")
    elevated: float = Field(default=0.3, ge=0, le=1)
    high: float = Field(default=0.6, ge=0, le=1)
    least_faces: int = Field(default=5, ge=1)  # fewer give no level
    least_share: float = Field(default=0.5, ge=0, le=1)  # of frames with a face; less gives no level

    @field_validator("negative")
    @classmethod
    def _known(cls, negative: tuple[str, ...]) -> tuple[str, ...]:
        if not negative or set(negative) - set(LABELS):
            raise ValueError(f"the labels are {', '.join(LABELS)}")
        return negative

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.elevated > self.high:
            raise ValueError(f"elevated ({self.elevated:g}) must not be above high ({self.high:g})")
        return self


def load_rule() -> Rule:
    """Return the rule, with what the environment changes in it; raises PipelineError if that is no such rule."""
    return load_settings(VARIABLE, Rule)


def screen(labels: Sequence[str], with_face: int, frames: int, rule: Rule) -> dict[str, Any]:
    """Return the level of a clip, or of a person in it, ready for JSON.

    Args:
        labels: the expression of each face that was read.
        with_face: how many frames had such a face.
        frames: how many were looked at.
        rule: what makes a level.

    Returns:
        `level` (low, elevated, high, or None where there are too few faces), `negative_share`, `reason`, `notice`.
    """
    count = sum(label in rule.negative for label in labels)
    share = count / len(labels) if labels else None
    level, reason = None, ""
    if len(labels) < rule.least_faces:
        reason = f"no level: there are {len(labels)} faces; {rule.least_faces} are needed"
    elif with_face < rule.least_share * frames:
        reason = (
            f"no level: {with_face} of {frames} frames have a face; below {rule.least_share:.0%} they tell too little"
        )
    else:
        assert share is not None
        level = LEVELS[(share >= rule.elevated) + (share >= rule.high)]
        reason = (
            f"{count} of {len(labels)} faces ({share:.0%}) look {' or '.join(rule.negative)}; it is elevated from "
            f"{rule.elevated:.0%} on, high from {rule.high:.0%} on"
        )
    return {"level": level, "negative_share": share, "reason": reason, "notice": NOTICE}
