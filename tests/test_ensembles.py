import numpy as np
import pytest

from pipeline.evaluation import ensembles
from pipeline.evaluation.ensembles import Known, Mixture, Stacking, answer_crossed, average, fit, one_against_rest

RANDOM = np.random.default_rng(0)
LABEL_IDS = RANDOM.integers(0, 7, 700)
GROUPS = np.arange(700).astype(str)


def member(sureness, random=RANDOM):
    """Return answers (700, 7) that favour the true label, the more the surer."""
    scores = random.normal(size=(700, 7)) + sureness * np.eye(7)[LABEL_IDS]
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


GOOD, POOR = member(3), member(0)
ANSWERS = np.stack([GOOD, POOR], axis=1)


def log_likelihood(probabilities):
    return np.log(probabilities[np.arange(700), LABEL_IDS]).mean()


def test_the_average_is_the_mean_of_its_members():
    np.testing.assert_allclose(average(ANSWERS), (GOOD + POOR) / 2)


def test_weights_are_those_that_make_the_labels_most_likely():
    mixture = Mixture().fit(ANSWERS, LABEL_IDS)
    tried = {share: log_likelihood(share * GOOD + (1 - share) * POOR) for share in np.linspace(0, 1, 201)}
    best = max(tried, key=tried.__getitem__)
    np.testing.assert_allclose(mixture.weights_, [best, 1 - best], atol=0.006)


@pytest.mark.parametrize("how", ["weighted", "stacking"])
def test_probabilities_sum_to_one_and_no_label_is_lost(how):
    known = Known(ANSWERS, LABEL_IDS, GROUPS)
    without_disgust = known.at(LABEL_IDS != 1)
    for answered in (fit(how, without_disgust).predict_proba(ANSWERS), answer_crossed(how, known)):
        assert answered.shape == (700, 7)
        np.testing.assert_allclose(answered.sum(1), 1)


def test_stacking_learns_which_member_to_trust():
    liar = np.roll(member(4), 1, axis=1)  # always one label off
    answered = Stacking().fit(np.stack([liar, POOR], axis=1), LABEL_IDS).predict_proba(np.stack([liar, POOR], axis=1))
    assert (answered.argmax(1) == LABEL_IDS).mean() > 0.9


def test_no_face_is_answered_by_what_was_fitted_on_it_or_its_copies():
    """A member that is right about a face only where it has seen its label would make itself look good."""
    copies = np.repeat(np.arange(350), 2).astype(str)
    seen = []

    class Watched(Mixture):
        def fit(self, answers, label_ids):
            seen.append({float(answer[0, 0]) for answer in answers})
            return super().fit(answers, label_ids)

        def predict_proba(self, answers):
            asked = {float(answer[0, 0]) for answer in answers}
            assert not asked & seen[-1]
            return super().predict_proba(answers)

    marked = ANSWERS.copy()
    marked[:, 0, 0] = np.repeat(np.arange(350), 2)  # copies have the same mark
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ensembles.COMBINATIONS, "weighted", Watched)
        answer_crossed("weighted", Known(marked, LABEL_IDS, copies))
    assert len(seen) == 5


def test_one_against_rest_gives_each_label_its_share():
    own = np.array([[0.9, 0, 0, 0.6, 0, 0, 0.0], [0.1] * 7])
    np.testing.assert_allclose(one_against_rest(own), [[0.6, 0, 0, 0.4, 0, 0, 0], [1 / 7] * 7], atol=1e-5)
