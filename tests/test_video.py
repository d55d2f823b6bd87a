"""Reading videos: which frames are taken, what is refused, and how much memory it takes."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from films import RECORDINGS, claiming, film, shades, silent, stretched, turned, zeroed
from toys import encoded

from pipeline.vision import video
from pipeline.vision.video import UnsupportedVideoError, VideoError, VideoTooLargeError, sample

KINDS = [".mp4", ".webm"]
HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(100)


def take(content: bytes, fps: float) -> list[video.Frame]:
    return list(sample(io.BytesIO(content), fps))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fps", [1, 2, 4, 10])
def test_frames_are_taken_evenly_in_time(kind: str, fps: float) -> None:
    frames = take(film(shades(31), kind), fps)
    expected = np.ceil(np.round(10 * np.arange(0, 3.001, 1 / fps), 6)) / 10
    assert [frame.time for frame in frames] == pytest.approx(expected.tolist())
    for frame in frames:
        assert frame.pixels is not None
        assert frame.pixels.shape == (48, 64, 3)
        assert frame.pixels.mean() == pytest.approx(50 * frame.time, abs=4)


def test_more_frames_than_there_are_can_not_be_had() -> None:
    assert len(take(film(shades(5), fps=2), 10)) == 5


def test_colours_are_in_their_order() -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 200
    (frame,) = take(film([red]), 1)
    assert frame.pixels is not None
    assert frame.pixels.mean((0, 1)) == pytest.approx([200, 0, 0], abs=6)


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: file.name)
def test_what_a_browser_records_is_read(file: Path) -> None:
    frames = take(file.read_bytes(), 2)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=0.05)
    assert all(frame.pixels is not None and frame.pixels.shape == (120, 160, 3) for frame in frames)


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_claims_ten_hours_is_not_believed(kind: str) -> None:
    content = film(shades(20), kind)
    assert [frame.time for frame in take(claiming(content, 36_000), 2)] == [frame.time for frame in take(content, 2)]


def test_a_video_is_turned_upright() -> None:
    (frame,) = take(turned(film(shades(1))), 1)
    assert frame.pixels is not None
    assert frame.pixels.shape == (64, 48, 3)


def test_frames_that_can_not_be_read_are_told() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3)).astype(np.uint8)
    frames = take(zeroed(film(noise), 0.4, 0.6), 2)
    assert [frame.time for frame in frames] == pytest.approx(np.arange(0, 4, 0.5), abs=0.25)
    readable = [frame.pixels is not None for frame in frames]
    assert 1 <= readable.count(False) <= 3
    assert readable[0]
    assert readable[-1]


SOUND = {kind: film(shades(20), kind) for kind in KINDS}
MANY = film(shades(8_001, (16, 16)), fps=100)
BAD: dict[str, tuple[type[VideoError], bytes]] = {
    "empty": (VideoError, b""),
    "MP4 of its signature": (VideoError, b"\x00\x00\x00\x18ftypmp42"),
    "WebM of its signature": (VideoError, SOUND[".webm"][:40]),
    "MP4 of nothing": (VideoError, b"\x00\x00\x00\x18ftypmp42" + bytes(1000)),
    **{f"{kind} cut in half": (VideoError, content[: len(content) // 2]) for kind, content in SOUND.items()},
    **{f"{kind} without its last byte": (VideoError, content[:-1]) for kind, content in SOUND.items()},
    **{f"{kind} of sound alone": (VideoError, silent(content)) for kind, content in SOUND.items()},
    **{f"{file.name} cut off": (VideoError, file.read_bytes()[:-1]) for file in RECORDINGS},
    "WebM with a hole": (VideoError, zeroed(SOUND[".webm"], 0.4, 0.6)),
    "text": (UnsupportedVideoError, b"hello"),
    "JPEG": (UnsupportedVideoError, encoded(".jpg")),
    "HEIC, in the boxes of MP4": (UnsupportedVideoError, HEIC),
    "AVI": (UnsupportedVideoError, b"RIFF\x24\x00\x00\x00AVI LIST"),
    "playlist": (UnsupportedVideoError, b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
    "ten real hours": (VideoTooLargeError, stretched(SOUND[".mp4"], 18_000)),
    "large frames": (VideoTooLargeError, film(shades(1, (4208, 2400)))),
    "many frames": (VideoTooLargeError, MANY),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_video_is_refused_in_a_sentence(name: str) -> None:
    kind, content = BAD[name]
    with pytest.raises(VideoError) as told:
        take(content, 2)
    assert type(told.value) is kind


def test_too_many_frames_to_look_at_are_refused_and_fewer_a_second_are_not() -> None:
    content = film(shades(400, (16, 16)), fps=10)
    with pytest.raises(VideoTooLargeError, match="ask for fewer"):
        take(content, 10)
    assert len(take(content, 5)) == 200


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """All 1,000 frames take 0.9 GB, and the 200 that are taken 184 MB."""
    (tmp_path / "film").write_bytes(film(shades(1, (640, 480))[0] for _ in range(1000)))
    code = """
import sys
from pathlib import Path
from pipeline.vision.video import sample

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1000

frames = sample(open(sys.argv[1], "rb"), 2)
next(frames)
before = peak()
print(sum(1 for _ in frames), peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "film"], capture_output=True, text=True, check=True
    )  # fmt: skip
    frames, megabytes = done.stdout.split()
    assert int(frames) == 199
    assert float(megabytes) < 30


def test_reading_needs_no_training_code() -> None:
    code = "import sys, pipeline.inference.watching; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "mlflow", "dvc", "pandas", "bentoml"} & set(done.stdout.split())
