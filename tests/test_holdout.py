"""Holding out on random tables of many shapes; networkx says independently which faces must stay together."""

import hashlib
from collections.abc import Iterator

import networkx
import numpy as np
import pandas as pd
import pytest

from pipeline.datasets.holdout import hold_out
from pipeline.labels import LABELS

SHARES = {"test": 0.1, "validation": 0.1}


def sha256(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def table(pictures: list[int], people: list[int | None], labels: list[str]) -> pd.DataFrame:
    """Return a face a row: the picture that it shows, in a pixel version of its own, and of whom."""
    return pd.DataFrame(
        {
            "label": labels,
            "person": [None if person is None else f"p{person}" for person in people],
            "group": [sha256(picture)[:16] for picture in pictures],
            "pixel_sha256": [sha256(f"{picture}/{number}") for number, picture in enumerate(pictures)],
        }
    ).astype({"person": object})


def portraits(count: int, first: int = 0, labels: tuple[str, ...] = LABELS) -> pd.DataFrame:
    """Return faces that are units of their own, of all labels in turn."""
    numbers = range(first, first + count)
    return table(list(numbers), [None] * count, [labels[n % len(labels)] for n in numbers])


def random_tables(count: int) -> Iterator[pd.DataFrame]:
    """Give tables of 1 to 60 faces: few or many copies, people and labels, in which copies show several people."""
    random = np.random.default_rng(0)
    for _ in range(count):
        faces = random.integers(1, 60)
        pictures = random.integers(0, random.integers(1, 3 * faces + 1), faces)
        people = random.integers(0, random.integers(1, faces + 1), faces)
        known = random.random(faces) < random.choice([0, 0.3, 0.7, 1])
        labels = random.choice(LABELS[: random.integers(1, 8)], faces)
        yield table(list(pictures), [p if k else None for p, k in zip(people, known, strict=True)], list(labels))


def units_of(faces: pd.DataFrame) -> pd.Series:
    """Return a number a face, equal for those that persons and groups join."""
    graph = networkx.Graph()
    for face, person, group in zip(faces.index, faces.person, faces.group, strict=True):
        graph.add_edge(face, ("group", group))
        if pd.notna(person):
            graph.add_edge(face, ("person", person))
    parts = enumerate(networkx.connected_components(graph))
    return pd.Series({node: number for number, part in parts for node in part if not isinstance(node, tuple)})


def test_no_person_and_no_picture_stands_in_two_splits() -> None:
    used = set()
    for faces in random_tables(150):
        split = hold_out(faces, {"test": 0.3, "validation": 0.2}, seed=0)
        assert (split.groupby(faces.group).nunique() == 1).all()
        assert (split.groupby(faces.person).nunique() == 1).all()
        used |= set(split)
    assert used == {"train", "validation", "test"}


def test_two_people_are_only_joined_by_a_picture_of_both() -> None:
    people = [0, 0, 1, 1, None, 2]
    joined = table([0, 1, 1, 2, 2, 3], people, ["happy"] * 6)
    apart = table([0, 1, 2, 3, 4, 5], people, ["happy"] * 6)
    together = [hold_out(faces, {"test": 0.5}, seed) for faces in (joined, apart) for seed in range(30)]
    assert all(split[:5].nunique() == 1 for split in together[:30])
    assert {tuple(split[:4]) for split in together[30:]} >= {("test", "test", "train", "train")}


def test_same_faces_in_another_order_are_held_out() -> None:
    for faces in random_tables(40):
        shuffled = faces.sample(frac=1, random_state=1)
        pd.testing.assert_series_equal(hold_out(shuffled, SHARES, 0).sort_index(), hold_out(faces, SHARES, 0))


def test_another_seed_holds_out_others() -> None:
    faces = portraits(300)
    one, other = (set(faces.index[hold_out(faces, SHARES, seed) == "test"]) for seed in (0, 1))
    assert len(one) == len(other)
    assert len(one & other) < len(one) / 2


@pytest.mark.parametrize("added", [1, 10, 30, 100])
def test_new_faces_move_fewer_others_than_there_are_new(added: int) -> None:
    old = portraits(300)
    moved = []
    for trial in range(20):
        new = portraits(added, first=1000 * (trial + 1))
        after = hold_out(pd.concat([old, new], ignore_index=True), SHARES, trial)
        moved.append(int((after[: len(old)] != hold_out(old, SHARES, trial)).sum()))
    assert np.mean(moved) < added


def test_new_units_move_twice_as_many_others_at_most() -> None:
    tables = list(random_tables(70))
    for number, (old, new) in enumerate(zip(tables, tables[1:], strict=False)):
        new = new.assign(person="new-" + new.person, group="new-" + new.group)
        before = hold_out(old, SHARES, number)
        after = hold_out(pd.concat([old, new], ignore_index=True), SHARES, number)[: len(old)]
        moved = units_of(old)[before != after].nunique()
        assert moved <= 2 * units_of(new).nunique()


def test_one_new_unit_can_move_two() -> None:
    """The bound is met: with the third unit of a label there are enough for every split."""
    old, new = portraits(2, labels=("happy",)), portraits(3, labels=("happy",))
    moved = [(hold_out(old, SHARES, seed) != hold_out(new, SHARES, seed)[:2]).sum() for seed in range(10)]
    assert max(moved) == 2


@pytest.mark.parametrize("faces_now", [["happy", "sad"], ["happy"]])
def test_a_new_face_of_a_person_moves_nobody(faces_now: list[str]) -> None:
    people = [person for person in range(30) for _ in faces_now]
    old = table(list(range(len(people))), [*people], faces_now * 30)
    new = table([900], [7], ["fear"])
    after = hold_out(pd.concat([old, new], ignore_index=True), SHARES, 0)
    assert list(after[: len(old)]) == list(hold_out(old, SHARES, 0))
    assert after[len(old)] == after[7 * len(faces_now)]


def test_a_copy_in_another_dataset_moves_nothing() -> None:
    """The group takes its name from the first copy of all, wherever that is."""
    faces = portraits(100)
    renamed = faces.assign(group="0" + faces.group.str[1:])
    pd.testing.assert_series_equal(hold_out(renamed, SHARES, 0), hold_out(faces, SHARES, 0))


@pytest.mark.parametrize(
    ("units", "expected"),
    [(1, (0, 0)), (2, (0, 0)), (3, (1, 1)), (5, (1, 1)), (10, (1, 1)), (15, (2, 1)), (30, (3, 3)), (300, (30, 30))],
)
def test_each_split_takes_its_share_and_at_least_one_unit_where_there_are_enough(
    units: int, expected: tuple[int, int]
) -> None:
    split = hold_out(portraits(units, labels=("happy",)), SHARES, 0)
    assert ((split == "test").sum(), (split == "validation").sum()) == expected


def test_a_share_of_nothing_takes_nothing() -> None:
    assert set(hold_out(portraits(70), {"test": 0.5, "validation": 0}, 0)) == {"train", "test"}


def test_labels_are_in_proportion() -> None:
    faces = pd.concat([portraits(count, 1000 * count, (label,)) for label, count in (("happy", 200), ("fear", 30))])
    held = faces.reset_index(drop=True)
    assert held.label[hold_out(held, SHARES, 0) == "test"].value_counts().to_dict() == {"happy": 20, "fear": 3}
