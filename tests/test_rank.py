import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.stages.rank import main


def write_metrics(folder: Path, name: str, accuracy: float, classes: tuple[str, ...] = LABELS, tta: float = 0) -> None:
    scores = {"n": 14, "accuracy": accuracy, "macro_f1": 0.5, "weighted_f1": 0.5, "ece": 0.1}
    own = {**scores, "ci95": {"accuracy": [0.1, 0.9]}, "tta": {"accuracy": tta} if tta else None}
    folder.mkdir(exist_ok=True)
    content = {"version": name, "own": own, "classes": dict.fromkeys(classes)}
    (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = {"data": ["fer2013"], "backbone": "basic_cnn"}
    recipes = {"one": recipe, "two": recipe, "happy": {**recipe, "one_against_rest": "happy"}}
    zoo = {"run": list(recipes), "recipes": recipes, "ensembles": {"both": {"how": "average", "of": ["one", "two"]}}}
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "params.yaml").write_text(yaml.safe_dump(zoo))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"run": ["v1"], "recipes": {"v1": recipe}}))
    return tmp_path / "metrics"


def test_all_systems_stand_in_one_table_the_best_first(workplace):
    write_metrics(workplace, "one", 0.4)
    write_metrics(workplace, "two", 0.6, tta=0.65)
    write_metrics(workplace, "happy", 0.9, ("rest", "happy"))
    write_metrics(workplace, "both", 0.5)
    write_metrics(workplace, "gone", 0.99)  # of a system that is no more
    main(workplace, Path("ranking.csv"))
    table = pd.read_csv("ranking.csv")
    assert table.system.tolist() == ["happy", "two", "both", "one"]
    assert table.classes.tolist() == [2, 7, 7, 7]
    assert table.tta[1] == 0.65
    assert table.tta.isna().sum() == 3


def test_a_system_that_was_not_scored_is_named(workplace):
    write_metrics(workplace, "one", 0.4)
    with pytest.raises(PipelineError, match=r"two\.json .*zoo/dvc\.yaml:evaluate@two"):
        main(workplace, Path("ranking.csv"))
    assert not Path("ranking.csv").exists()
