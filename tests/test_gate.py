import numpy as np
import pandas as pd
import pytest

from pipeline.params import PromoteParams
from pipeline.promotion.gate import CandidateFacts, judge, rank
from pipeline.promotion.significance import mcnemar

TRUE = np.arange(7).repeat(40)
FACES = pd.DataFrame({"label_id": TRUE, "dataset": np.where(np.arange(len(TRUE)) % 2, "fer2013", "rafdb")})
SOUND = CandidateFacts(valid_data=True, dirty=False, megabytes=5, milliseconds=4)
QUICK = PromoteParams(resamples=1000, ece=1)


def table(predicted, split="validation"):
    return pd.DataFrame({"split": split, "label_id": TRUE, "predicted": predicted})


def wrong(count):
    """Answers that are wrong for so many faces of every label."""
    return np.where(np.arange(len(TRUE)) % 40 < count, (TRUE + 1) % 7, TRUE)


def sure(predicted):
    return np.eye(7)[predicted]


def broken(verdict):
    return [check.rule for check in verdict.checks if not check.passed]


def test_versions_are_ranked_by_macro_f1_on_validation_faces_only():
    good_on_test = pd.concat([table(wrong(9)), table(TRUE, split="test")])
    ranking = rank({"v1": good_on_test, "v2": table(wrong(2)), "v3": table(TRUE)})
    assert [entry["version"] for entry in ranking] == ["v3", "v2", "v1"]
    assert ranking[0]["validation_macro_f1"] == 1
    assert ranking[0]["faces"] == len(TRUE)


def test_the_first_champion_needs_no_rival():
    verdict = judge(FACES, sure(wrong(5)), None, SOUND, QUICK)
    assert verdict.promoted
    assert verdict.champion_macro_f1 is None
    assert verdict.reason == f"there is no champion yet; macro-F1 {verdict.candidate_macro_f1:.4f} on 280 test faces"


def test_a_better_candidate_is_let_through_with_its_numbers():
    verdict = judge(FACES, sure(wrong(2)), sure(wrong(9)), SOUND, QUICK)
    assert verdict.promoted
    assert verdict.wins == (49, 0)
    assert verdict.gain is not None
    assert verdict.champion_macro_f1 is not None
    assert verdict.gain.value == pytest.approx(verdict.candidate_macro_f1 - verdict.champion_macro_f1)
    assert 0 < verdict.gain.lower < verdict.gain.value < verdict.gain.upper
    assert verdict.numbers()["gain"]["value"] == verdict.gain.value


@pytest.mark.parametrize("candidate", [2, 3, 9])
def test_a_worse_candidate_and_one_that_is_as_good_keep_the_champion(candidate):
    verdict = judge(FACES, sure(wrong(candidate)), sure(wrong(2)), SOUND, QUICK)
    assert not verdict.promoted
    assert {"more right", "macro-F1"} <= set(broken(verdict))
    assert f"macro-F1 {verdict.candidate_macro_f1:.4f} on 280 test faces, the champion's" in verdict.reason


def test_what_may_be_luck_keeps_the_champion():
    better_by_four_faces = wrong(2).copy()
    better_by_four_faces[:2] = TRUE[:2]
    better_by_four_faces[40:42] = TRUE[40:42]
    verdict = judge(FACES, sure(better_by_four_faces), sure(wrong(2)), SOUND, QUICK)
    assert verdict.wins == (4, 0)
    assert verdict.p_value == pytest.approx(1 / 16)
    assert broken(verdict) == ["more right"]


def test_who_was_chosen_by_the_same_faces_among_many_must_be_better_still():
    better_by_six = wrong(2).copy()
    better_by_six[[0, 1, 40, 41, 80, 81]] = TRUE[[0, 1, 40, 41, 80, 81]]
    assert judge(FACES, sure(better_by_six), sure(wrong(2)), SOUND, QUICK).promoted
    assert broken(judge(FACES, sure(better_by_six), sure(wrong(2)), SOUND, QUICK, choices=7)) == ["more right"]


def test_no_class_and_no_dataset_may_fall_far_whatever_is_gained_elsewhere():
    champion = wrong(20)
    no_more_surprise = np.where(TRUE == 6, 5, TRUE)
    verdict = judge(FACES, sure(no_more_surprise), sure(champion), SOUND, QUICK)
    assert verdict.gain is not None
    assert verdict.gain.lower > 0
    assert broken(verdict) == ["every class"]
    assert "the F1 of surprise falls by 0.5" in verdict.reason
    other_way = np.where(FACES.dataset == "rafdb", TRUE, (TRUE + 2) % 7)
    verdict = judge(FACES, sure(other_way), sure(champion), SOUND, QUICK.model_copy(update={"class_margin": 0.9}))
    assert "every dataset" in broken(verdict)
    assert "the macro-F1 of fer2013 falls by" in verdict.reason


@pytest.mark.parametrize(
    ("changed", "limits", "rule"),
    [
        ({"valid_data": False}, {}, "data"),
        ({"dirty": True}, {"dirty": "refuse"}, "tree"),
        ({"dirty": None}, {"dirty": "refuse"}, "tree"),
        ({}, {"megabytes": 4.9}, "size"),
        ({}, {"milliseconds": 3.9}, "latency"),
        ({}, {"ece": 0.04}, "calibration"),
    ],
)
def test_each_rule_can_refuse_even_the_first_champion(changed, limits, rule):
    candidate = CandidateFacts(**{"valid_data": True, "dirty": False, "megabytes": 5, "milliseconds": 4, **changed})
    params = QUICK.model_copy(update=limits)
    assert broken(judge(FACES, sure(wrong(2)), None, candidate, params)) == [rule]


def test_uncommitted_changes_are_flagged_where_they_are_not_refused():
    verdict = judge(FACES, sure(TRUE), None, CandidateFacts(True, True, 5, 4), QUICK)
    assert verdict.promoted
    assert "the git tree that it was trained from had uncommitted changes" in [check.says for check in verdict.checks]


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_an_equally_good_candidate_passes_at_most_as_often_as_alpha_says(alpha):
    """A simulation: both models are right for two faces of three, independently of each other.

    Those that do not have significantly more faces right are refused for that alone; of these, only some are judged.
    """
    random = np.random.default_rng(0)
    faces, trials = FACES.iloc[::2].reset_index(drop=True), 400
    label_ids = faces.label_id.to_numpy()
    params = QUICK.model_copy(update={"alpha": alpha, "class_margin": 0.99, "dataset_margin": 0.99})
    passed, hopeless = 0, 20
    for _ in range(trials):
        mine, theirs = (
            np.where(random.random(len(faces)) < 2 / 3, label_ids, random.integers(0, 7, len(faces))) for _ in range(2)
        )
        has_more_right = mcnemar(label_ids, mine, theirs)[2] <= alpha
        hopeless -= not has_more_right
        if has_more_right or hopeless > 0:
            verdict = judge(faces, sure(mine), sure(theirs), SOUND, params)
            assert has_more_right or not verdict.promoted
            passed += verdict.promoted
    assert passed / trials <= alpha + 2 * (alpha * (1 - alpha) / trials) ** 0.5
    assert passed / trials >= alpha / 4  # it is no wall either
