"""Feeds a reader with mutated files in a process of its own: `python tests/fuzz.py <target> <inputs> <seed> <folder>`.

Each input is written to `<folder>/input` before it is read, so that one that kills the process is left there. How many
were read and refused, and by how many MB the process grew, is written to `<folder>/counts.json`.

A reader is fuzzed by an entry in `TARGETS`: files to mutate, and what must hold for every input.
"""

import faulthandler
import json
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from image_kinds import KINDS
from mutations import IMAGE_WORDS, mutated
from raw_kinds import ARCHIVE_WORDS, TABLE_WORDS, archives, tables

from pipeline.errors import PipelineError
from pipeline.sources import SOURCES
from pipeline.sources.archive import bring
from pipeline.sources.raw import Raw
from pipeline.vision import transforms
from pipeline.vision.headers import read_header

SECONDS = 5.0  # of CPU for one input
AT_ONCE = 5_000  # inputs before Hypothesis starts afresh: it remembers them all


class Target(NamedTuple):
    """Files that a reader reads, words of their format, and `check`, which returns whether an input was read.

    `check` raises if the reader did what it must not.

    `least_read` is the share of inputs that must be read, or the fuzzing stops at the reader's door; `most_mb` is what
    the process may grow by.
    """

    files: Sequence[bytes]
    words: Sequence[bytes]
    check: Callable[[bytes], bool]
    least_read: float
    most_mb: int


def check_image(data: bytes) -> bool:
    try:
        image = transforms.decode(data)
    except transforms.ImageError:
        return False
    header = read_header(data)
    assert header is not None
    assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
    assert image.shape[:2] in ((header.height, header.width), (header.width, header.height)), "announced otherwise"
    assert image.shape[0] * image.shape[1] <= transforms.MAX_PIXELS
    np.testing.assert_array_equal(transforms.decode(data), image, "memory that nobody wrote")
    return True


def check_sentence(error: PipelineError) -> None:
    assert "\n" not in str(error)


def check_table(data: bytes) -> bool:
    file, source = Path("table.csv"), SOURCES["fer2013"]
    file.write_bytes(data)
    raw, pictures = Raw(file), []
    try:
        pictures = [picture for part in source.parts(raw) for picture in source.pictures(raw, part)]
    except PipelineError as error:
        check_sentence(error)
    finally:
        raw.close()
    faces = [picture for picture in pictures if not isinstance(picture, str)]
    assert all(transforms.decode(face.data).shape == (48, 48, 3) for face in faces)
    assert len({face.path for face in faces}) == len(faces)
    return bool(faces)


def check_archive(data: bytes) -> bool:
    file = Path("archive")
    file.write_bytes(data)
    try:
        with TemporaryDirectory() as folder:
            raw = Raw(bring(file, Path(folder), "archive"))
            content = [raw.read(entry) for entry in raw.entries()]
            raw.close()
    except PipelineError as error:
        check_sentence(error)
        return False
    assert sum(map(len, content)) < 1_000_000
    return True


TARGETS = {
    "image": Target(list(KINDS.values()), IMAGE_WORDS, check_image, least_read=0.05, most_mb=200),
    "table": Target(tables(), TABLE_WORDS, check_table, least_read=0.1, most_mb=250),
    "archive": Target(archives(), ARCHIVE_WORDS, check_archive, least_read=0.05, most_mb=250),
}


def fuzz(target: Target, inputs: int, first_seed: int, folder: Path) -> Counter[str]:
    """Check a number of inputs; the process ends where one takes more than `SECONDS` of CPU."""
    counts: Counter[str] = Counter()
    faulthandler.register(signal.SIGPROF, chain=True)  # says where it was, and ends the process as the signal does

    def check(data: bytes) -> None:
        (folder / "input").write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        counts["read" if target.check(data) else "refused"] += 1
        signal.setitimer(signal.ITIMER_PROF, 0)

    for number, done in enumerate(range(0, inputs, AT_ONCE)):
        rules = settings(
            max_examples=min(AT_ONCE, inputs - done),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        seed(first_seed + number)(rules(given(mutated(target.files, target.words))(check)))()
    return counts


def main(name: str, inputs: int, first_seed: int, folder: Path) -> None:
    transforms.MAX_PIXELS = 1_000_000  # so that memory tells whether a limit was passed, and each input is quick
    target = TARGETS[name]
    for file in target.files:
        assert target.check(file), "a file to start from is not read"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = fuzz(target, inputs, first_seed, folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    (folder / "counts.json").write_text(json.dumps({**counts, "grown_mb": grown}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
