import itertools
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.sources import SOURCES, Picture
from pipeline.sources.picture import Place
from pipeline.sources.raw import Raw
from pipeline.vision.transforms import decode

# What a path of each layout says: native label, split, person. None: the file is not one of the dataset's pictures.
PLACES: dict[str, dict[str, tuple[str, str, str | None] | None]] = {
    "fer2013": {
        "train/angry/Training_10118481.jpg": ("angry", "train", None),
        "test/happy/PublicTest_1.jpg": ("happy", "validation", None),
        "fer2013/test/Sad/PrivateTest_9.PNG": ("sad", "test", None),
        "train/contempt/Training_3.jpg": ("contempt", "train", None),
        "train/angry/Training_5.txt": None,
        "train/angry/face.jpg": None,
        "other/angry/Training_6.jpg": None,
        "Training_7.jpg": None,
    },
    "rafdb": {
        "DATASET/train/1/train_00001_aligned.jpg": ("1", "train", None),
        "DATASET/test/7/test_0002_aligned.jpg": ("7", "test", None),
        "train/6/train_00003_aligned.jpg": ("6", "train", None),
        "DATASET/train/9/x.jpg": ("9", "train", None),
        "DATASET/train_00001_aligned.jpg": None,
        "train_labels.csv": None,
    },
    "affectnet": {
        "AffectNet/train/0/image1.jpg": ("0", "train", None),
        "AffectNet/val/3/image2.jpg": ("3", "validation", None),
        "test/7/ffhq_1.png": ("7", "test", None),
        "AffectNet/train/0/image1.npy": None,
        "AffectNet/extra/0/image1.jpg": None,
    },
    "wild": {
        "images/0/Anger.jpg": ("anger", "none", "0"),
        "images/18/Surprised.jpg": ("surprised", "none", "18"),
        "images/2/Contempt.JPG": ("contempt", "none", "2"),
        "Happiness/me at home.jfif": ("happiness", "none", None),
        "own/sad/Happy.webp": ("sad", "none", None),
        "bored/1.jpeg": ("bored", "none", None),
        "emotions.csv": None,
        "happy.jpg": None,
    },
}
# As the documentation of the downloads has them.
MEANT = {
    "fer2013": {label: label for label in LABELS},
    "rafdb": dict(zip("1234567", ["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"], strict=True)),
}
AFFECTNET = {
    "ferplus-order": ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"],
    "official": ["neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"],
    "alphabetical": ["angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"],
}
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 48, 48), dtype=np.uint8)
TEXTS = [" ".join(map(str, pixels.ravel())) for pixels in PIXELS]


def read(dataset: str, path: Path) -> list[Picture | str]:
    source, raw = SOURCES[dataset], Raw(path)
    return [picture for part in source.parts(raw) for picture in source.pictures(raw, part)]


def write_csv(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("dataset", PLACES)
def test_places_say_label_split_and_person(dataset: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "files.zip", "w") as archive:
        for path in PLACES[dataset]:
            archive.writestr(path, f"content of {path}")
    pictures = [picture for picture in read(dataset, tmp_path / "files.zip") if isinstance(picture, Picture)]
    expected = {path: place for path, place in PLACES[dataset].items() if place}
    found = {p.path: (p.place.native_label, p.place.native_split, p.place.person) for p in pictures}
    assert found == expected
    assert [picture.path for picture in pictures] == sorted(expected)
    assert {picture.data.decode() for picture in pictures} == {f"content of {path}" for path in expected}


@pytest.mark.parametrize("dataset", MEANT)
def test_native_labels_mean_what_the_download_says(dataset: str) -> None:
    (meant,) = SOURCES[dataset].label_maps.values()
    assert meant == MEANT[dataset]


def test_affectnet_has_three_maps_and_the_reference_systems_is_the_default() -> None:
    maps = SOURCES["affectnet"].label_maps
    assert next(iter(maps)) == "ferplus-order"
    assert {name: [codes[str(code)] for code in range(8)] for name, codes in maps.items()} == AFFECTNET


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["anger", "angry"], "angry"),
        (["disgust", "disgusted"], "disgust"),
        (["fear", "fearful"], "fear"),
        (["happy", "happiness"], "happy"),
        (["neutral"], "neutral"),
        (["sad", "sadness"], "sad"),
        (["surprise", "surprised"], "surprise"),
        (["contempt"], "contempt"),
    ],
)
def test_wild_folders_may_bear_any_common_alias(names: list[str], label: str) -> None:
    (aliases,) = SOURCES["wild"].label_maps.values()
    assert {aliases[name] for name in names} == {label}


@pytest.mark.parametrize("layout", ["fer2013.csv", "icml_face_data.csv"])
def test_fer2013_csv_reads_in_both_column_orders(layout: str, tmp_path: Path) -> None:
    usages = itertools.cycle(["Training", "PublicTest", "PrivateTest"])
    rows = [(str(code), usage, text) for code, usage, text in zip(range(7), usages, TEXTS, strict=False)]
    lines = [",".join(row) for row in rows] if "icml" in layout else [f"{c},{text},{usage}" for c, usage, text in rows]
    header = "emotion, Usage, pixels" if "icml" in layout else "emotion,pixels,Usage"
    pictures = read("fer2013", write_csv(tmp_path / layout, header, *lines))
    assert [picture.place.native_label for picture in pictures] == [
        "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral",
    ]  # fmt: skip
    assert [picture.place.native_split for picture in pictures[:3]] == ["train", "validation", "test"]
    assert [picture.path for picture in pictures[:2]] == ["row 2", "row 3"]
    for picture, pixels in zip(pictures, PIXELS, strict=False):
        np.testing.assert_array_equal(decode(picture.data), np.repeat(pixels[:, :, None], 3, axis=2))


def test_fer2013_csv_is_found_inside_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "fer2013.zip", "w") as archive:
        archive.writestr("fer2013/fer2013.csv", f"emotion,pixels,Usage\n3,{TEXTS[0]},Training\n")
        archive.writestr("fer2013/README", "")
    (picture,) = read("fer2013", tmp_path / "fer2013.zip")
    assert (picture.path, picture.place.native_label) == ("row 2", "happy")


@pytest.mark.parametrize(
    "pixels",
    [
        " ".join(TEXTS[0].split()[1:]),
        TEXTS[0] + " 0",
        TEXTS[0].replace(" ", " x", 1),
        "256 " + TEXTS[0].split(" ", 1)[1],
        "-1 " + TEXTS[0].split(" ", 1)[1],
        "9" * 40 + " " + TEXTS[0].split(" ", 1)[1],
        "",
    ],
    ids=["short", "long", "letters", "too bright", "too dark", "huge", "none"],
)
def test_row_whose_pixels_are_no_picture_is_dropped_with_the_reason(pixels: str, tmp_path: Path) -> None:
    lines = ["emotion,pixels,Usage", f"3,{pixels},Training", f"4,{TEXTS[1]},Training"]
    broken, whole = read("fer2013", write_csv(tmp_path / "fer2013.csv", *lines))
    assert broken == "pixels that are not 48x48 numbers of 0 to 255"
    assert isinstance(whole, Picture)
    assert (whole.path, decode(whole.data).shape) == ("row 3", (48, 48, 3))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"3,{TEXTS[0]},Public", "unknown Usage"),
        (f"3,{TEXTS[0]},", "unknown Usage"),
        ("3", "row with more or fewer columns than the header"),
        (f"3,{TEXTS[0]},Training,more", "row with more or fewer columns than the header"),
        (f"3,{TEXTS[0].replace(' ', ',')},Training", "row with more or fewer columns than the header"),
        (f'3,"{TEXTS[0]},Training', "row that is no CSV"),
        (f'3,"{TEXTS[0]}" x,Training', "row that is no CSV"),
        ('3,"' + "1 " * 100_000 + '",Training', "row that is no CSV"),
        (f"3,{TEXTS[0]}\0,Training", "pixels that are not 48x48 numbers of 0 to 255"),
        ("\xff\xfe\x00", "row with more or fewer columns than the header"),
    ],
    ids=["usage", "no usage", "short", "long", "commas", "open quote", "closed too early", "huge", "zero", "binary"],
)
def test_broken_row_is_dropped_with_the_reason_and_spoils_no_other(line: str, reason: str, tmp_path: Path) -> None:
    lines = ["emotion,pixels,Usage", f"3,{TEXTS[0]},Training", line, "", f'4,"{TEXTS[1]}",Training']
    first, broken, last = read("fer2013", write_csv(tmp_path / "fer2013.csv", *lines))
    assert broken == reason
    assert isinstance(first, Picture)
    assert isinstance(last, Picture)
    assert (first.path, last.path) == ("row 2", "row 5")


@pytest.mark.parametrize("code", ["7", "joy", "", "-1", "3.0", "9" * 5000])
def test_unknown_code_is_kept_as_such(code: str, tmp_path: Path) -> None:
    (picture,) = read(
        "fer2013", write_csv(tmp_path / "fer2013.csv", "emotion,pixels,Usage", f"{code},{TEXTS[0]},Training")
    )
    assert isinstance(picture, Picture)
    assert picture.place == Place("unknown code", "train")


@pytest.mark.parametrize("header", ["emotion,Usage", "label,data,split", ""])
def test_csv_with_other_columns_is_refused_by_name(header: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"faces\.csv has no column .*pixels.*its header is"):
        read("fer2013", write_csv(tmp_path / "faces.csv", header))


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8"), ("\t", "utf-8"), (",", "utf-16")])
def test_csv_of_another_kind_is_refused_with_what_is_expected(separator: str, encoding: str, tmp_path: Path) -> None:
    lines = ["emotion,pixels,Usage", f"3,{TEXTS[0]},Training"]
    (tmp_path / "faces.csv").write_text("\n".join(lines).replace(",", separator), encoding)
    with pytest.raises(PipelineError, match="expected a table in UTF-8 with commas between its columns$"):
        read("fer2013", tmp_path / "faces.csv")


def test_table_with_everything_quoted_is_read(tmp_path: Path) -> None:
    header, row = '"emotion","pixels","Usage"', f'"3","{TEXTS[0]}","Training"'
    (picture,) = read("fer2013", write_csv(tmp_path / "faces.csv", header, row))
    assert isinstance(picture, Picture)


def test_column_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    lines = ["emotion,pixels,Usage,emotion", f"3,{TEXTS[0]},Training,4"]
    with pytest.raises(PipelineError, match="has no column emotion, or has it twice"):
        read("fer2013", write_csv(tmp_path / "faces.csv", *lines))


def test_table_beside_pictures_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        archive.writestr("faces.csv", f"emotion,pixels,Usage\n3,{TEXTS[0]},Training\n")
        archive.writestr("train/happy/Training_1.jpg", b"one")
    with pytest.raises(PipelineError, match=r"both\.zip holds the table faces\.csv and pictures too; leave only one"):
        read("fer2013", tmp_path / "both.zip")


@pytest.mark.parametrize("name", ["Training_1", "Training_1.ppm", "Training_1.jpg_large", "Training_1.jpg "])
def test_file_where_pictures_are_is_looked_into_whatever_its_name(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "files.zip", "w") as archive:
        archive.writestr(f"train/happy/{name}", b"one")
    (picture,) = read("fer2013", tmp_path / "files.zip")
    assert isinstance(picture, Picture)


def test_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"fer2013\.csv: line 2 has more than 1,048,576 bytes"):
        read("fer2013", write_csv(tmp_path / "fer2013.csv", "emotion,pixels,Usage", "3," + "1 " * 2_000_000))


def test_table_is_told_from_other_csv_files_by_its_columns(tmp_path: Path) -> None:
    table = f"\ufeffemotion,pixels,Usage\r\n3,{TEXTS[0]},Training\r\n"  # as a spreadsheet writes it
    with zipfile.ZipFile(tmp_path / "challenge.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", f"emotion,pixels\n3,{TEXTS[1]}\n")
        archive.writestr("icml_face_data.csv", table)
    (picture,) = read("fer2013", tmp_path / "challenge.zip")
    assert isinstance(picture, Picture)
    assert decode(picture.data)[..., 0].tolist() == PIXELS[0].tolist()
    with zipfile.ZipFile(tmp_path / "challenge.zip", "a") as archive:
        archive.writestr("fer2013.csv", table)
    with pytest.raises(PipelineError, match=r"challenge.zip holds fer2013.csv and icml_face_data.csv, which both"):
        read("fer2013", tmp_path / "challenge.zip")


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_table_longer_than_a_block_is_read_whole(rows: int, tmp_path: Path) -> None:
    lines = [f"{number % 7},{TEXTS[number % 8]},Training" for number in range(rows)]
    for end in ("\n", ""):
        (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]) + end)
        pictures = read("fer2013", tmp_path / "fer2013.csv")
        assert [picture.path for picture in pictures] == [f"row {number + 2}" for number in range(rows)]


def test_real_excerpts_in_both_layouts_hold_the_same_rows(shared: Path) -> None:
    one, other = (read("fer2013", shared / "data" / f"{name}_excerpt.csv") for name in ("fer2013", "icml_face_data"))
    assert len(one) == 126
    assert one == other
    assert {p.place.native_label for p in one} == set(LABELS)
    assert {decode(p.data).shape for p in one} == {(48, 48, 3)}
