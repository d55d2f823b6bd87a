import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.datasets.images import StoredImages, read_images
from pipeline.datasets.tables import SCHEMA, STORAGE
from pipeline.errors import PipelineError

SIZES = (0, 1, 3, 300, 15_000, 2_000_000)  # the last one is larger than a page of a Parquet file


def count_open_files():
    return len(list(Path("/dev/fd").iterdir()))


def write_images(folder, dataset, sizes, storage=STORAGE, rows=1000):
    """Write random bytes as a dataset's images; return its faces and them."""
    random = np.random.default_rng(len(dataset))
    images = [random.bytes(size) for size in sizes]
    table = pd.DataFrame({"face_id": [f"{dataset}-{n}" for n in range(len(images))], "dataset": dataset})
    stored = pa.Table.from_pylist(table.assign(image=images).to_dict("records"), schema=SCHEMA)
    pq.write_table(stored, folder / f"{dataset}.parquet", row_group_size=rows, **storage)
    return table, images


def test_each_image_is_read_from_where_it_lies(tmp_path):
    first, images = write_images(tmp_path, "rafdb", SIZES * 8, rows=20)
    second, more = write_images(tmp_path, "fer2013", (500,) * 4000)
    images += more
    order = np.random.default_rng(0).permutation(len(images))[:2500]
    stored = StoredImages(tmp_path, pd.concat([first, second]).iloc[order])
    assert list(stored) == [images[index] for index in order]


def test_images_that_stand_there_twice_or_within_another_are_read_as_well(tmp_path):
    table, images = write_images(tmp_path, "rafdb", (400, 400))
    inner = len(images[0]).to_bytes(4, "little") + images[0]
    every = [images[0], inner, images[0], inner + inner, images[1], images[0]]
    table = pd.DataFrame({"face_id": list("abcdef"), "dataset": "rafdb"})
    stored = pa.Table.from_pylist(table.assign(image=every).to_dict("records"), schema=SCHEMA)
    pq.write_table(stored, tmp_path / "rafdb.parquet", **STORAGE)
    assert list(StoredImages(tmp_path, table)) == every


def test_processes_read_from_one_file_at_once_whether_forked_or_not(tmp_path):
    table, images = write_images(tmp_path, "rafdb", (3000,) * 500)
    stored = StoredImages(tmp_path, table)
    copy = pickle.loads(pickle.dumps(stored))
    assert len(pickle.dumps(stored)) < 20 * len(images)
    with ProcessPoolExecutor(2) as pool:
        read = list(pool.map(copy.__getitem__, [*range(500)] * 2, chunksize=50))
    assert read == images * 2
    assert list(stored) == images


def test_files_are_closed_with_the_last_that_reads_them(tmp_path):
    table, _ = write_images(tmp_path, "rafdb", SIZES)
    before = count_open_files()
    stored = StoredImages(tmp_path, table)
    assert count_open_files() == before + 1
    del stored
    assert count_open_files() == before


def test_a_file_that_is_replaced_does_not_change_what_is_read(tmp_path):
    table, images = write_images(tmp_path, "rafdb", SIZES)
    stored = StoredImages(tmp_path, table)
    write_images(tmp_path, "fer2013", SIZES)
    (tmp_path / "fer2013.parquet").replace(tmp_path / "rafdb.parquet")
    assert list(stored) == images


@pytest.mark.parametrize("storage", [{}, {"compression": "none"}])
def test_images_that_are_not_stored_as_they_are_are_refused(tmp_path, storage):
    table, images = write_images(tmp_path, "rafdb", (50, 60) * 5, storage)
    with pytest.raises(PipelineError, match=r"rafdb\.parquet holds images that .* `dvc repro --force harmonize@rafdb`"):
        StoredImages(tmp_path, table)
    assert read_images(tmp_path, table) == images


def test_memory_does_not_grow_with_the_images(tmp_path):
    table, images = write_images(tmp_path, "rafdb", (100_000,) * 300, rows=20)
    del images
    tracemalloc.start()
    try:
        stored = StoredImages(tmp_path, table)
        assert sum(map(len, stored)) == 30_000_000
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
