"""What every adapter gives: pictures with the label, the split and the person that their place in a layout says."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pipeline.errors import PipelineError
from pipeline.sources.parts import Lines, Part, cut_files, cut_table
from pipeline.sources.raw import Raw

NativeSplit = Literal["train", "validation", "test", "none"]
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".jp2"
)  # fmt: skip  # also of kinds that are not read: those are counted as dropped
OTHER_SUFFIXES = (".csv", ".db", ".ds_store", ".html", ".ini", ".json", ".md", ".npy", ".pdf", ".pts", ".txt", ".xml")
LARGEST_FILE = 100 << 20  # bytes


class Place(NamedTuple):
    """What a path inside a dataset says: the label as the dataset writes it, the official split, the person."""

    native_label: str
    native_split: NativeSplit
    person: str | None = None


class Picture(NamedTuple):
    """One picture as the source has it: its path inside the source, its encoded bytes, and what its place says."""

    path: str
    data: bytes
    place: Place


Reason = str  # why a picture is dropped
ELSEWHERE: Reason = "not where the layout has pictures"


@dataclass(frozen=True)
class Source:
    """An adapter: how to read a dataset's layout, and what its native labels mean.

    `layout` says in words what is expected, for the error of somebody who brought something else. `cropped` is true
    where every picture is one face already. `label_maps` are the known meanings of the native labels, by name; the
    first is the default. `locate` tells the place that a path says, or nothing where the path is not of the layout.
    Where the layout may be a table, it has `columns`, and `rows` reads its lines. `train_counts` are the official
    release's training pictures by label, where the native labels are numbers that somebody may have numbered otherwise.
    """

    name: str
    handle: str
    layout: str
    cropped: bool
    label_maps: dict[str, dict[str, str]]
    locate: Callable[[str], Place | None]
    columns: tuple[str, ...] = ()
    rows: Callable[[Lines], Iterator[Picture | Reason]] | None = None
    train_counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def numbered(self) -> bool:
        """Whether the native labels are numbers, which may mean something else than they are taken for."""
        return len(self.label_maps) > 1 or bool(self.train_counts)

    def labels(self, name: str | None = None) -> dict[str, str]:
        """Return what the native labels mean by the map of that name, or by the default."""
        return self.label_maps[name or next(iter(self.label_maps))]

    def parts(self, raw: Raw) -> Iterable[Part]:
        """Cut a raw file into parts that processes can read on their own; the same file gives the same parts.

        Raises:
            PipelineError: if the file is damaged, or a table in it is none of this layout.
        """
        entries = raw.entries()
        files = [entry for entry in entries if self._may_be_picture(entry.path)]
        tables = [entry for entry in entries if entry.path.lower().endswith(".csv")] if self.columns else []
        headers = {table.path: next(cut_table(raw, table)).header for table in tables}
        fitting = [table for table in tables if all(headers[table.path].count(name) == 1 for name in self.columns)]
        if len(fitting) > 1:
            paths = " and ".join(table.path for table in fitting)
            raise PipelineError(f"{raw.name} holds {paths}, which both could be the table; leave only one")
        if fitting and any(self.locate(entry.path) for entry in files):
            raise PipelineError(f"{raw.name} holds the table {fitting[0].path} and pictures too; leave only one")
        if fitting:
            return cut_table(raw, fitting[0])
        if tables and not files:
            path, header = next(iter(headers.items()))
            missing = ", ".join(name for name in self.columns if header.count(name) != 1)
            raise PipelineError(
                f"{path} has no column {missing}, or has it twice; its header is {', '.join(header)[:200]!r}; "
                f"expected a table in UTF-8 with commas between its columns"
            )
        return cut_files(files, whole=not self.cropped)

    def pictures(self, raw: Raw, part: Part) -> Iterator[Picture | Reason]:
        """Give the pictures of a part, or the reason why one is dropped unseen.

        Raises:
            PipelineError: if the file is damaged.
        """
        if isinstance(part, Lines):
            assert self.rows is not None  # only then are there such parts
            yield from self.rows(part)
            return
        for entry in part.entries:
            place = self.locate(entry.path)
            if place is None:
                yield ELSEWHERE
            elif entry.bytes > LARGEST_FILE:
                yield "too large"
            else:
                yield Picture(entry.path, raw.read(entry), place)

    def _may_be_picture(self, path: str) -> bool:
        """Return whether a file is looked into: content decides, also where a name has no suffix or an odd one."""
        if path.lower().endswith(PICTURE_SUFFIXES):
            return True
        return not path.lower().endswith(OTHER_SUFFIXES) and self.locate(path) is not None
