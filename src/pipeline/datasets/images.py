"""The encoded images of faces: many in the order of their files, a few, or each when it is asked for."""

import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.datasets.tables import open_faces
from pipeline.errors import PipelineError

LENGTH_BYTES = 4  # that Parquet's plain encoding puts before each value


def iter_images(folder: Path, table: pd.DataFrame) -> Iterator[pd.Series]:
    """Give the images of some faces in the order in which they lie in their files, some thousand at a time.

    Args:
        folder: with one Parquet file a dataset.
        table: the faces, `face_id, dataset`, each once.

    Returns:
        encoded images, with the number of the face's row in `table`, counted from 0, as index.

    Raises:
        PipelineError: if a dataset's table is missing or damaged.
    """
    for dataset in table.dataset.unique():
        for group in _row_groups(folder, table, dataset):
            asked_for = group.rows >= 0
            images = group.read("image").filter(pa.array(asked_for)).to_pylist()
            yield pd.Series(images, index=group.rows[asked_for], dtype=object)


def read_images(folder: Path, table: pd.DataFrame) -> list[bytes]:
    """Read the images of a few faces, in the order of their table; see `iter_images`."""
    found = {row: image for images in iter_images(folder, table) for row, image in images.items()}
    return [found[row] for row in range(len(table))]


class StoredImages(Sequence[bytes]):
    """The images of some faces, in the order of their table; each is read from its file when it is asked for.

    `harmonize` writes images as they are, neither compressed nor in a dictionary, so it is enough to know where in the
    file each one lies: 13 bytes a face. The operating system keeps what it has room for, once for all processes.
    """

    def __init__(self, folder: Path, table: pd.DataFrame) -> None:
        """Find the images of the faces of a table, `face_id, dataset`, each once.

        Args:
            folder: with one Parquet file a dataset.
            table: the faces.

        Raises:
            PipelineError: if a file is damaged, or images do not lie in it as they are.
        """
        names = table.dataset.unique().tolist()
        self._starts, self._sizes = np.zeros(len(table), np.int64), np.zeros(len(table), np.int32)
        self._file_ids = table.dataset.map(names.index).to_numpy(np.uint8)
        self._files = [_File(folder / f"{name}.parquet") for name in names]
        for file, name in zip(self._files, names, strict=True):
            for group in _row_groups(folder, table, name):
                images, (start, size) = group.read("image").to_pylist(), group.place("image")
                try:
                    places = _places(file.read(start, size), images)
                except ValueError as error:
                    raise PipelineError(
                        f"{folder / name}.parquet holds images that are compressed or in a dictionary; write it anew "
                        f"by `dvc repro --force harmonize@{name}`"
                    ) from error
                asked_for = group.rows >= 0
                rows = group.rows[asked_for]
                self._starts[rows] = start + np.array(places)[asked_for]
                self._sizes[rows] = np.array([len(image) for image in images])[asked_for]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._starts)

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]
        """Read an image."""
        return self._files[self._file_ids[index]].read(self._starts[index], self._sizes[index])


class _File:
    """An open file that several processes read from, each where it likes."""

    def __init__(self, path: Path) -> None:
        self._path, self._descriptor = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, start)

    def __reduce__(self) -> tuple[type["_File"], tuple[Path]]:
        return _File, (self._path,)  # a process that was not forked opens it for itself


def _places(column: bytes, images: Iterable[bytes]) -> list[int]:
    """Return the place of each image among the bytes of its column.

    In Parquet's plain encoding (parquet.apache.org/docs/file-format/data-pages/encodings) values follow one another,
    each after its length, with a header wherever a page begins. Headers need not be read: the first place behind the
    image before where the same bytes stand is as good as the image's own, and never lies behind it.

    Raises:
        ValueError: if an image does not lie there as it is.
    """
    places, end = [], 0
    for image in images:
        value = len(image).to_bytes(LENGTH_BYTES, "little") + image
        start = end if column.startswith(value, end) else column.index(value, end)
        end = start + len(value)
        places.append(end - len(image))
    return places


class _RowGroup(NamedTuple):
    """A part of a dataset's table that fits into memory; of each of its faces the row where it is asked for, or -1."""

    file: pq.ParquetFile
    number: int
    rows: NDArray[np.intp]

    def read(self, column: str) -> pa.ChunkedArray:
        return self.file.read_row_group(self.number, columns=[column])[column]

    def place(self, column: str) -> tuple[int, int]:
        group = self.file.metadata.row_group(self.number)
        columns = (group.column(index) for index in range(group.num_columns))
        part = next(part for part in columns if part.path_in_schema == column)
        return part.data_page_offset, part.total_compressed_size


def _row_groups(folder: Path, table: pd.DataFrame, dataset: str) -> Iterator[_RowGroup]:
    """Give the parts of a dataset's table that hold faces of another table."""
    asked_for = pd.Index(table.face_id)
    with open_faces(folder, dataset) as file:
        for number in range(file.num_row_groups):
            names = file.read_row_group(number, columns=["face_id"])["face_id"].to_pandas()
            rows = asked_for.get_indexer(names)
            if (rows >= 0).any():
                yield _RowGroup(file, number, rows)
