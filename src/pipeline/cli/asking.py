"""Asking a model about many pictures and videos, in files and folders: their answers, one by one, and as a table."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from tqdm import tqdm

from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.vision.transforms import ImageError
from pipeline.vision.video import HEAD_BYTES, VideoError, is_video

# Of files in a folder; one that is named is always tried.
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"} | {".mp4", ".m4v", ".mov", ".webm"}

Ask = Callable[[bytes], dict[str, Any]]
AskVideo = Callable[[BinaryIO], dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """A picture or a video, and its answer, or why there is none."""

    file: Path
    answer: dict[str, Any] | None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return what there is, ready for JSON."""
        return {"file": str(self.file), **(self.answer or {"error": self.error})}


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files among the paths, and the pictures and videos in the folders among them and below, in order.

    Raises:
        PipelineError: if a path does not exist, or there is none at all.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise PipelineError(f"there is no {path}")
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        else:
            found.append(path)
    if not found:
        raise PipelineError(
            f"no picture or video was found; a folder's are those that end in {', '.join(sorted(SUFFIXES))}"
        )
    return found


def ask_all(ask: Ask, ask_video: AskVideo, files: Iterable[Path]) -> Iterator[Asked]:
    """Ask about each file, with a progress bar; one that can not be read is told, and does no harm to the others.

    Which is a video, its content says.
    """
    for file in tqdm(files, desc="files", unit=" files", mininterval=1, disable=None):
        try:
            with file.open("rb") as content:
                film = is_video(content.read(HEAD_BYTES))
                content.seek(0)
                answer = ask_video(content) if film else ask(content.read())
            yield Asked(file, answer)
        except (ImageError, VideoError, OSError) as error:
            yield Asked(file, None, str(error))


def as_table(asked: Iterable[Asked]) -> pd.DataFrame:
    """Return one row a face: `file, face, emotion, confidence, x, y, width, height`, the probabilities, `note`.

    A picture without a face, or without an answer, is a row of its own, of which the `note` says so. A row of a video
    is a person, with the mean of the probabilities and no box; the `note` says when.
    """
    rows: list[dict[str, Any]] = []
    for one in asked:
        faces = one.answer.get("faces", []) if one.answer else []
        tracks = one.answer.get("tracks", []) if one.answer else []
        for track in tracks:
            mean = track["mean"]
            told = {"emotion": mean["emotion"], "confidence": mean["confidence"], **mean["probabilities"]}
            note = f"{track['faces']} frames, {track['first']:.1f} to {track['last']:.1f} s"
            rows.append({"file": str(one.file), "face": track["track"], **told, "note": note})
        for number, face in enumerate(faces, 1):
            box = dict(zip(("x", "y", "width", "height"), face["box"], strict=True))
            told = {"emotion": face["emotion"], "confidence": face["confidence"], **box, **face["probabilities"]}
            rows.append({"file": str(one.file), "face": number, **told, "note": ""})
        if not faces and not tracks:
            rows.append({"file": str(one.file), "note": one.error or "no face"})
    columns = ["file", "face", "emotion", "confidence", "x", "y", "width", "height", *LABELS, "note"]
    return pd.DataFrame(rows, columns=columns).astype({"face": "Int64"})


def describe(table: pd.DataFrame, top: int | None = None) -> str:
    """Return the table as aligned lines for a person; of the probabilities it has the `top` ones, by default none."""
    shown = table.drop(columns=[*LABELS, "x", "y", "width", "height"])
    if top:
        shown.insert(shown.columns.get_loc("note"), "top", [_likeliest(row, top) for _, row in table.iterrows()])
    shown["confidence"] = shown.confidence.map("{:.2f}".format, na_action="ignore")
    shown = shown.astype(object).where(shown.notna(), "").astype(str)
    aligned = shown.apply(lambda column: column.str.ljust(column.str.len().max()))
    lines = aligned.to_string(index=False, justify="left").splitlines()
    return "\n".join(line.strip() for line in lines)


def _likeliest(row: "pd.Series[Any]", top: int) -> str:
    ranked = row[list(LABELS)].dropna().astype(float).sort_values(ascending=False, kind="stable")
    return ", ".join(f"{label} {share:.2f}" for label, share in ranked.head(top).items())
