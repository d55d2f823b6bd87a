import hashlib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.files import read_json
from pipeline.params import SplitParams
from pipeline.stages.split import main, split, summarize

PARAMS = SplitParams(validation=0.1, test=0.1, seed=0)
COLUMNS = ["face_id", "dataset", "label", "native_split", "person", "pixel_sha256", "phash"]
Row = tuple[str, str, str, str, str | None, str, str]


def face(
    face_id: str,
    native_split: str = "train",
    label: str = "happy",
    dataset: str = "fer2013",
    person: str | None = None,
    picture: str | None = None,
    cropped: int = 0,
) -> Row:
    """Return a row; two rows with the same `picture` are copies, but for as many bits as one of them is `cropped`."""
    phash = hashlib.sha256((picture or face_id).encode()).hexdigest()
    pixels = hashlib.sha256(f"{phash}{cropped}".encode()).hexdigest()
    changed = f"{int(phash, 16) ^ ((1 << cropped) - 1):064x}"
    return face_id, dataset, label, native_split, person, pixels, changed


def table(*rows: Row) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def many(count: int, **facts: str) -> list[Row]:
    prefix = "-".join(facts.values())
    return [face(f"{prefix}-{number}", **facts) for number in range(count)]


def put(rows: Iterable[Row], params: SplitParams = PARAMS) -> pd.DataFrame:
    """Return what `split` says, by face."""
    return split(table(*rows), params).set_index("face_id")


def counts(result: pd.DataFrame) -> dict[str, int]:
    return result.split.value_counts().to_dict()


def official(*rows: Row) -> list[Row]:
    """Return rows among others that give two datasets all official splits, so that nothing is cut off."""
    names, datasets = ("train", "validation", "test"), ("fer2013", "rafdb")
    return [*rows, *(other for name in names for d in datasets for other in many(3, native_split=name, dataset=d))]


def test_official_splits_are_kept() -> None:
    rows = [*many(30, native_split="train"), *many(5, native_split="validation"), *many(5, native_split="test")]
    result = put(rows)
    assert list(result.split) == [row[3] for row in rows]
    assert set(result.reason) == {"official split"}
    assert not result.leaked.any()


def test_result_has_a_row_a_face_in_the_order_given() -> None:
    faces = table(*many(5, native_split="test"), *many(20, native_split="train"))
    result = split(faces, PARAMS)
    assert list(result.columns) == ["face_id", "dataset", "label", "group", "split", "reason", "leaked"]
    assert list(result.face_id) == list(faces.face_id)


def test_face_without_an_official_split_among_others_is_in_none() -> None:
    assert put(official(face("stray", "none"))).split["stray"] == "none"


@pytest.mark.parametrize("evaluated", ["test", "validation"])
def test_dataset_without_training_faces_is_only_evaluated(evaluated: str) -> None:
    assert counts(put(many(20, native_split=evaluated))) == {evaluated: 20}


def test_missing_validation_is_a_tenth_of_each_label_of_the_training_faces() -> None:
    rows = [
        *many(200, label="happy", native_split="train"),
        *many(50, label="fear", native_split="train"),
        *many(40, label="happy", native_split="test"),
    ]
    result = put(rows)
    assert result.groupby("split").label.value_counts().to_dict() == {
        ("train", "happy"): 180,
        ("train", "fear"): 45,
        ("validation", "happy"): 20,
        ("validation", "fear"): 5,
        ("test", "happy"): 40,
    }
    assert set(result.reason[result.split == "validation"]) == {"held-out split"}


def test_missing_splits_are_80_10_10_of_each_label() -> None:
    rows = [*many(300, label="sad", native_split="none"), *many(100, label="angry", native_split="none")]
    result = put(rows)
    shares = result.groupby(["label", "split"]).size() / result.groupby("label").size()
    for label in ("sad", "angry"):
        assert shares[label].to_dict() == {"train": 0.8, "validation": 0.1, "test": 0.1}


def test_shares_come_from_the_params() -> None:
    rows = many(200, native_split="none")
    assert counts(put(rows, SplitParams(validation=0.2, test=0.3))) == {"train": 100, "validation": 40, "test": 60}


def test_people_stay_whole() -> None:
    rows = [
        face(f"{person}-{number}", "none", label, person=f"p{person}")
        for person in range(30)
        for number, label in enumerate(["happy", "sad", "fear"])
    ]
    result = put(rows)
    assert counts(result) == {"train": 72, "validation": 9, "test": 9}
    assert (result.groupby(result.index.str.split("-").str[0]).split.nunique() == 1).all()


def test_people_on_one_picture_stay_together() -> None:
    rows = [
        face(f"{couple}-{person}-{number}", "none", person=f"{couple}-{person}",
             picture=f"{couple}-{person}-{number}" if number else couple)
        for couple in map(str, range(30))
        for person in range(2)
        for number in range(3)
    ]  # fmt: skip
    result = put(rows)
    assert (result.groupby(result.index.str.split("-").str[0]).split.nunique() == 1).all()
    assert counts(result) == {"train": 144, "validation": 18, "test": 18}


def test_copies_stay_together_when_a_split_is_cut_off() -> None:
    rows = [face(f"{picture}-{copy}", "none", picture=str(picture)) for picture in range(100) for copy in range(3)]
    result = put(rows)
    assert (result.groupby("group").split.nunique() == 1).all()
    assert counts(result) == {"train": 240, "validation": 30, "test": 30}


@pytest.mark.parametrize("elsewhere", ["fer2013", "rafdb"])
@pytest.mark.parametrize(("stays", "goes"), [("test", "train"), ("test", "validation"), ("validation", "train")])
def test_copy_goes_where_the_later_split_has_the_face(stays: str, goes: str, elsewhere: str) -> None:
    copies = [face(f"copy{number}", goes, picture="p", dataset=elsewhere) for number in range(2)]
    result = put(official(face("kept", stays, picture="p"), *copies))
    assert result.loc["kept", ["split", "reason"]].tolist() == [stays, "official split"]
    for number in range(2):
        assert result.loc[f"copy{number}", ["split", "reason"]].tolist() == ["none", f"copy of a {stays} face"]
    # Leaked are the evaluation faces that were also there to be learned; copies themselves are not evaluated.
    assert list(result.index[result.leaked]) == (["kept"] if goes == "train" else [])


@pytest.mark.parametrize(
    ("cropped", "bits", "found"), [(56, 56, True), (57, 56, False), (1, 0, False), (0, -1, True), (1, -1, False)]
)
def test_a_copy_that_was_cropped_is_a_copy(cropped: int, bits: int, found: bool) -> None:
    rows = official(face("kept", "test", picture="p"), face("copy", picture="p", cropped=cropped))
    result = put(rows, SplitParams(near_duplicate_bits=bits))
    assert result.leaked["kept"] == found
    assert result.split["copy"] == ("none" if found else "train")


def test_no_picture_stands_in_two_splits() -> None:
    splits = ["train", "validation", "test", "none"]
    rows = [
        face(f"{dataset}{number}", splits[number % 7 % 4], dataset=dataset, picture=str(number % 40))
        for dataset in ("fer2013", "rafdb", "affectnet")
        for number in range(100)
    ] + [face(f"wild{number}", "none", dataset="wild", picture=str(number)) for number in range(60)]
    result = put(rows)
    used = result[result.split != "none"]
    assert (used.groupby("group").split.nunique() == 1).all()
    assert used.group.nunique() == 60


def labels_kept(*labels: str) -> list[str]:
    """Return the labels that are still learned of copies in training, one a label given."""
    result = put(official(*(face(f"{number}", label=label, picture="p") for number, label in enumerate(labels))))
    copies = result.iloc[: len(labels)]
    assert set(copies.reason[copies.split == "none"]) <= {"conflicting labels"}
    return list(copies.label[copies.split == "train"])


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        (["happy", "happy"], ["happy", "happy"]),
        (["happy", "sad"], []),
        (["happy", "happy", "sad"], []),
        (["happy", "sad", "happy", "happy"], ["happy"] * 3),
        (["happy"] * 3 + ["sad"] * 3, []),
        (["happy"] * 3 + ["sad", "sad", "fear"], []),
    ],
    ids=["agree", "one each", "two against one", "three against one", "three against three", "half is no majority"],
)
def test_training_copies_that_disagree_go_unless_three_are_a_majority(labels: list[str], kept: list[str]) -> None:
    assert labels_kept(*labels) == kept


def test_training_copies_are_compared_between_datasets_too() -> None:
    rows = [face("a", label="happy", picture="p"), face("b", label="sad", dataset="rafdb", picture="p")]
    assert set(put(official(*rows)).reason[["a", "b"]]) == {"conflicting labels"}


def test_evaluation_faces_that_disagree_stay_and_are_counted() -> None:
    rows = [face("a", "test", "happy", picture="p"), face("b", "test", "sad", picture="p")]
    result = split(table(*official(*rows)), PARAMS)
    assert list(result.split[:2]) == ["test", "test"]
    assert summarize(result)["conflicting"] == {"groups": 1, "faces": 2}


def test_copy_of_a_test_face_has_no_vote_about_the_label() -> None:
    copies = [face(f"{number}", label=label, picture="p") for number, label in enumerate(["happy", "sad"])]
    result = put(official(face("kept", "test", picture="p"), *copies))
    assert set(result.reason[["0", "1"]]) == {"copy of a test face"}


def mixed_rows() -> list[Row]:
    return [
        *many(100, label="happy", native_split="train", dataset="rafdb"),
        *many(100, label="sad", native_split="train", dataset="rafdb"),
        *many(30, native_split="test", dataset="rafdb"),
        *(face(f"w{n}", "none", ["happy", "sad"][n % 2], "wild", person=f"p{n // 4}") for n in range(80)),
        *(face(f"c{n}", picture=f"happy-train-rafdb-{n}") for n in range(10)),
    ]


@pytest.mark.parametrize("labels", [["happy"], ["happy", "sad"]], ids=["copies that agree", "copies that disagree"])
def test_same_faces_give_the_same_split_in_any_order(labels: list[str]) -> None:
    copies = [face(f"d{n}", label=labels[n % len(labels)], dataset="rafdb", picture=f"d{n // 2}") for n in range(40)]
    faces = table(*mixed_rows(), *copies)
    expected = split(faces, PARAMS).set_index("face_id")
    for seed in range(5):
        shuffled = split(faces.sample(frac=1, random_state=seed), PARAMS).set_index("face_id").loc[expected.index]
        assert list(shuffled.index[(shuffled != expected).any(axis=1)]) == []


def test_another_seed_holds_out_other_faces() -> None:
    one, other = (put(many(200, native_split="none"), SplitParams(seed=seed)) for seed in (0, 1))
    assert counts(one) == counts(other)
    assert (one.split != other.split).sum() > 20


def test_more_faces_move_hardly_any_other() -> None:
    before = put(many(1000, native_split="none"))
    after = put([*many(1000, native_split="none"), *many(50, label="happy", native_split="none")])
    assert (after.split[before.index] != before.split).sum() <= 15
    assert counts(after) == {"train": 840, "validation": 105, "test": 105}


def test_other_datasets_move_no_face_where_there_are_no_copies() -> None:
    alone = put(many(100, native_split="none"))
    beside = put([*many(100, native_split="none", dataset="wild"), *many(100, native_split="none")])
    pd.testing.assert_frame_equal(beside.loc[alone.index], alone)


def test_summary_counts_faces_leaks_and_what_went() -> None:
    rows = official(
        face("kept", "test", picture="p"),
        face("copy", "train", picture="p"),
        face("one", label="happy", picture="q"),
        face("other", label="sad", picture="q"),
    )
    assert summarize(split(table(*rows), PARAMS)) == {
        "faces": {
            "fer2013": {"train": 3, "validation": 3, "test": 4, "none": 3},
            "rafdb": {"train": 3, "validation": 3, "test": 3, "none": 0},
        },
        "distinct": 20,
        "leaked": {"validation": 0, "test": 1},
        "removed": {"conflicting labels": 2, "copy of a test face": 1},
        "conflicting": {"groups": 1, "faces": 2},
    }


def write_faces(folder: Path, dataset: str, *rows: Row, drawn: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    faces = pa.Table.from_pandas(table(*rows))
    metadata = {"drawn": str(drawn), "detector": "None"}
    pq.write_table(faces.replace_schema_metadata(metadata), folder / f"{dataset}.parquet")


def write_params(use: list[str], **shares: float) -> None:
    params = {"use": use, "run": ["v1"], "recipes": {}, "split": shares}
    Path("params.yaml").write_text(yaml.safe_dump(params))


def test_main_splits_the_datasets_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for dataset in ("fer2013", "rafdb", "wild"):
        write_faces(Path("faces"), dataset, *many(20, native_split="none", dataset=dataset))
    write_params(["fer2013", "wild"], test=0.5, validation=0)
    main(Path("faces"), Path("splits.parquet"), Path("split.json"))
    assert set(pd.read_parquet("splits.parquet").dataset) == {"fer2013", "wild"}
    expected = {"train": 10, "validation": 0, "test": 10, "none": 0}
    assert read_json(Path("split.json"))["faces"] == {"fer2013": expected, "wild": expected}


def test_near_copies_are_looked_for_among_photographs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copies = [face(f"{dataset}{n}", dataset=dataset, picture=dataset, cropped=9 * n) for dataset in ("fer2013", "rafdb")
              for n in range(2)]  # fmt: skip
    write_faces(Path("faces"), "fer2013", *copies[:2])
    write_faces(Path("faces"), "rafdb", *copies[2:], drawn=True)
    write_params(["fer2013", "rafdb"], validation=0)
    main(Path("faces"), Path("splits.parquet"), Path("split.json"))
    assert pd.read_parquet("splits.parquet").groupby("dataset").group.nunique().to_dict() == {"fer2013": 1, "rafdb": 2}
