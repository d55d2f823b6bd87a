"""Short clips: the close crop of one drawn person whose face moves from one expression to another."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.labels import LABELS
from pipeline.sample.camera import Camera
from pipeline.sample.expression import Expression, random_expression
from pipeline.sample.figure import draw_face
from pipeline.sample.pen import Pose
from pipeline.sample.person import Person, random_person
from pipeline.sample.scene import Framing, Look, draw_backdrop, random_pose

WEBCAM = Look(
    size=64,
    oversize=3,
    pose=0.2,
    framing=Framing(
        width=2 / 2.75, height=0.49, shift=0.006, zoom=0.012, tilt=1.4
    ),  # a face that is followed keeps its place
    spread=0.1,
    camera=Camera(noise=8.0, blur=0.9, quality=80),
)
HABIT = 0.16  # standard deviation of what a resting face shows of movements: some people look sad when they are not
FROM_ELSEWHERE = 0.25  # share of the clips of other labels than neutral that do not begin with a neutral face
SHARES = {"test": 0.25, "validation": 0.15}  # of the people; the others are for training


@dataclass(frozen=True)
class Clip:
    """A clip: its person, the expression it moves to, its split, and its frames as JPEG, in order."""

    person: str
    label: str
    split: str
    frames: list[bytes]


def draw_clips(people: int, frames: int, seed: int = 0) -> Iterator[Clip]:
    """Draw clips, one of each label a person; a person stands in one split only.

    Args:
        people: how many, at least 3, so that every split has one.
        frames: of each clip, at least 2.
        seed: another seed gives other people.
    """
    splits = _splits(people)
    for number, split in enumerate(splits):
        chance = np.random.default_rng([seed, number])
        person, habit = random_person(chance), chance.normal(0, HABIT, len(astuple(Expression())))
        for label_id, label in enumerate(LABELS):
            rng = np.random.default_rng([seed, number, label_id])
            yield Clip(f"person-{number:04d}", label, split, _draw_clip(person, habit, label, frames, rng))


def _draw_clip(
    person: Person, habit: NDArray[np.float64], label: str, frames: int, rng: np.random.Generator
) -> list[bytes]:
    """Draw a person whose face comes to show `label`; `habit` is added to every expression, as the person's own."""
    others = [name for name in LABELS if name not in (label, "neutral")]
    elsewhere = label == "neutral" or rng.random() < FROM_ELSEWHERE
    first, last = (
        Expression(*(habit + astuple(random_expression(name, rng, WEBCAM.spread))).tolist())
        for name in (str(rng.choice(others)) if elsewhere else "neutral", label)
    )
    side = WEBCAM.size * WEBCAM.oversize
    backdrop = draw_backdrop(side, rng)
    poses = _drift(random_pose(side, WEBCAM, rng), frames, rng)
    exposure = int(rng.integers(1 << 31))
    encoded = []
    for pose, share in zip(poses, _course(frames, rng), strict=True):
        canvas = backdrop.copy()
        draw_face(canvas, person, first.blend(last, share), pose)
        # One exposure and one blur a clip, and a grain of its own for each frame.
        size, same = (WEBCAM.size, WEBCAM.size), np.random.default_rng(exposure)
        encoded.append(WEBCAM.camera.take(canvas, size, same, film=rng))
    return encoded


def _course(frames: int, rng: np.random.Generator) -> list[float]:
    """Return for each frame how far the face has moved: 0 in the first, 1 in the last, slow at both ends."""
    begin, end = rng.uniform(0, 0.35), rng.uniform(0.65, 1)
    share = np.clip((np.linspace(0, 1, frames) - begin) / (end - begin), 0, 1)
    return (share**2 * (3 - 2 * share)).tolist()


def _drift(pose: Pose, frames: int, rng: np.random.Generator) -> list[Pose]:
    """Let a head move a little from frame to frame, as a random walk: about two pixels of 64 in eight frames."""
    steps = rng.normal(0, (0.015, 0.012, 0.006, 0.8, 0.05, 0.04), (frames, 6))
    right, down, nearer, roll, yaw, pitch = np.cumsum(steps, axis=0).T
    return [
        replace(
            pose,
            centre=(pose.centre[0] + pose.scale * right[i], pose.centre[1] + pose.scale * down[i]),
            scale=pose.scale * (1 + nearer[i]),
            roll=pose.roll + roll[i],
            yaw=pose.yaw + yaw[i],
            pitch=pose.pitch + pitch[i],
        )
        for i in range(frames)
    ]


def _splits(people: int) -> list[str]:
    """Return the split of each person, at least one in each."""
    counts = {split: max(1, round(share * people)) for split, share in SHARES.items()}
    held = [split for split, count in counts.items() for _ in range(count)]
    return held + ["train"] * (people - len(held))
