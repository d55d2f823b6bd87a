"""What every adapter gives: pictures with the label, the split and the person that their place in a layout says."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.archive import Archive

NativeSplit = Literal["train", "validation", "test", "none"]
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class Place:
    """What a path inside a dataset says: the label as the dataset writes it, the official split, the person."""

    native_label: str
    native_split: NativeSplit
    person: str | None = None


@dataclass(frozen=True)
class Picture:
    """One picture as the source has it: its path inside the source, its encoded bytes, and what its place says."""

    path: str
    data: bytes
    place: Place


@dataclass(frozen=True)
class Source:
    """An adapter: how to read a dataset's layout, and what its native labels mean.

    `layout` says in words what is expected, for the error of somebody who brought something else. `cropped` is true
    where every picture is one face already. `label_maps` are the known meanings of the native labels, by name; the
    first is the default. `train_counts` are the official release's training pictures by label, where the native labels
    are numbers that somebody may have numbered otherwise.
    """

    name: str
    handle: str
    layout: str
    cropped: bool
    label_maps: dict[str, dict[str, str]]
    read: Callable[[Archive], Iterator[Picture]]
    train_counts: Mapping[str, int] = field(default_factory=dict)

    def labels(self, name: str | None = None) -> dict[str, str]:
        """Return what the native labels mean by the map of that name, or by the default."""
        return self.label_maps[name or next(iter(self.label_maps))]


def located(archive: Archive, locate: Callable[[str], Place | None]) -> Iterator[Picture]:
    """Give the pictures of an archive whose place the layout knows; other files are not the dataset's pictures."""
    for path in archive.paths():
        place = locate(path) if path.lower().endswith(PICTURE_SUFFIXES) else None
        if place:
            yield Picture(path, archive.read(path), place)
