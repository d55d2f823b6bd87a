import pandas as pd

from pipeline.gate import judge, rank
from pipeline.params import PromoteParams

TRUE = [0, 1, 2, 3, 4, 5, 6] * 4


def table(predicted, split="validation"):
    return pd.DataFrame({"split": split, "label_id": TRUE, "predicted": predicted})


def wrong(count):
    return [6 - label if index < count else label for index, label in enumerate(TRUE)]


def test_versions_are_ranked_by_macro_f1_on_validation_faces_only():
    good_on_test = pd.concat([table(wrong(9)), table(TRUE, split="test")])
    ranking = rank({"v1": good_on_test, "v2": table(wrong(2)), "v3": table(TRUE)})
    assert [entry["version"] for entry in ranking] == ["v3", "v2", "v1"]
    assert ranking[0]["validation_macro_f1"] == 1
    assert ranking[0]["faces"] == len(TRUE)


def test_the_first_champion_needs_no_rival():
    verdict = judge(table(wrong(5)), None, PromoteParams())
    assert verdict.promoted
    assert verdict.champion_macro_f1 is None


def test_a_worse_candidate_is_stopped_and_a_better_one_is_let_through():
    worse, better = table(wrong(9)), table(wrong(2))
    assert not judge(worse, better.predicted, PromoteParams()).promoted
    verdict = judge(better, worse.predicted, PromoteParams())
    assert verdict.promoted
    assert verdict.champion_macro_f1 is not None
    assert verdict.candidate_macro_f1 > verdict.champion_macro_f1


def test_the_tolerance_is_what_a_candidate_may_lose():
    candidate, champion = table(wrong(2)), table(TRUE)
    assert not judge(candidate, champion.predicted, PromoteParams(tolerance=0.01)).promoted
    assert judge(candidate, champion.predicted, PromoteParams(tolerance=0.2)).promoted
