import pytest

from pipeline.evaluation.ranking import rank
from pipeline.labels import LABELS


def metrics(accuracy: float, classes: tuple[str, ...] = LABELS, tta: float = 0) -> dict[str, object]:
    scores = {"n": 14, "accuracy": accuracy, "macro_f1": 0.5, "weighted_f1": 0.5, "ece": 0.1}
    own = {**scores, "ci95": {"accuracy": [0.1, 0.9]}, "tta": {"accuracy": tta} if tta else None}
    return {"own": own, "classes": dict.fromkeys(classes)}


def test_all_systems_stand_in_one_table_the_best_first() -> None:
    table = rank(
        {
            "one": metrics(0.4),
            "two": metrics(0.6, tta=0.65),
            "happy": metrics(0.9, ("rest", "happy")),
            "both": metrics(0.5),
        }
    )
    assert table.system.tolist() == ["happy", "two", "both", "one"]
    assert table.classes.tolist() == [2, 7, 7, 7]
    assert table.tta[1] == pytest.approx(0.65)
    assert table.tta.isna().sum() == 3
