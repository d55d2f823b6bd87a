"""Seconds and peak memory of the data stages on a large archive of faces.

The archive is FER2013's faces, or drawn ones where the folder with real data is missing, each shifted, mirrored,
brightened and made noisy at random, so that no two pictures are the same. Memory is the proportional set size (PSS) of
a stage and all its processes, looked at ten times a second.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from itertools import count as numbers
from itertools import cycle, islice
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import psutil
import yaml

from pipeline.sample import draw
from pipeline.sources.archive import pack
from pipeline.vision.transforms import Image

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("FER_SHARED", ROOT.parent / "shared")) / "data" / "fer2013.zip"
STAGES = {
    "download": "fer2013 data/raw/fer2013",
    "harmonize": "fer2013 data/raw/fer2013 data/faces/fer2013.parquet metrics/harmonize/fer2013.json",
    "split": "data/faces data/splits.parquet metrics/split.json",
    "validate": "data/faces data/splits.parquet metrics/harmonize metrics/validation.json reports/data.html",
}


def faces() -> Iterator[tuple[str, bytes]]:
    """Give the label and the encoded bytes of training faces."""
    if REAL.is_file():
        with zipfile.ZipFile(REAL) as archive:
            for path in archive.namelist():
                if "/Training_" in path:
                    yield path.split("/")[-2], archive.read(path)
    else:
        yield from ((path.split("/")[-2], content) for path, content in draw("fer2013", 80, 0) if "/Training_" in path)


def changed(face: Image, random: np.random.Generator) -> bytes:
    """Return a grey face as JPEG, changed at random."""
    shift = np.array([[1, 0, random.integers(-4, 5)], [0, 1, random.integers(-4, 5)]], np.float32)
    moved = cv2.warpAffine(face, shift, face.shape[::-1], borderMode=cv2.BORDER_REFLECT)
    moved = moved[:, :: random.choice([-1, 1])] * random.uniform(0.7, 1.2) + random.normal(0, 2, face.shape)
    return cv2.imencode(".jpg", moved.clip(0, 255).astype(np.uint8))[1].tobytes()


def write_archive(file: Path, count: int) -> None:
    """Write so many faces in FER2013's layout."""
    known = [(label, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)) for label, data in faces()]
    random = np.random.default_rng(0)
    random.shuffle(known)  # they come label by label
    files = (
        (f"train/{label}/Training_{number}.jpg", io.BytesIO(changed(cast(Image, face), random)))
        for number, (label, face) in zip(numbers(), islice(cycle(known), count), strict=False)
    )
    pack(file, files, f"write {count:,} faces")


def run(stage: str, arguments: str, folder: Path) -> tuple[float, int]:
    """Run a stage; return its seconds and its peak memory in bytes."""
    start, peak = time.perf_counter(), 0
    command = [sys.executable, "-m", f"pipeline.stages.{stage}", *arguments.split()]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{stage} failed")
    return time.perf_counter() - start, peak


def memory(pid: int) -> int:
    """Return the bytes that a process and those it started hold, what they share counted once."""
    total = 0
    try:
        main = psutil.Process(pid)
        for process in (main, *main.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:
        pass  # it ended meanwhile
    return total


def main() -> None:
    """Print a table, a stage a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=200_000)
    count = parser.parse_args().faces
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_archive(folder / "faces.zip", count)
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params |= {"use": ["fer2013"]}
        params["datasets"]["fer2013"]["from"] = str(folder / "faces.zip")
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        print(f"{count:,} faces, {(folder / 'faces.zip').stat().st_size / 1e6:,.0f} MB\n")
        print(f"{'':<10}{'seconds':>9}{'peak MB':>9}")
        for stage, arguments in STAGES.items():
            seconds, peak = run(stage, arguments, folder)
            print(f"{stage:<10}{seconds:>9.1f}{peak / 1e6:>9,.0f}", flush=True)


if __name__ == "__main__":
    main()
