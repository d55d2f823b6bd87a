import numpy as np
import pytest

from pipeline.labels import LABELS
from pipeline.sources import SOURCES
from pipeline.sources.numbering import doubt_answers, doubt_counts, propose_map

RAFDB, AFFECTNET = SOURCES["rafdb"], SOURCES["affectnet"]
CODES = RAFDB.label_maps["codes"]


def numbered(counts, labels, share=1.0):
    """Return the counts of an official release as its download numbers them."""
    return {code: round(share * counts[label]) for code, label in labels.items()}


def test_official_counts_are_those_of_the_releases():
    assert sum(RAFDB.train_counts.values()) == 12_271
    assert sum(AFFECTNET.train_counts.values()) == 287_651


@pytest.mark.parametrize("share", [1.0, 0.1])
@pytest.mark.parametrize("name", list(AFFECTNET.label_maps))
def test_the_map_that_numbered_the_counts_is_proposed(name, share):
    labels = AFFECTNET.label_maps[name]
    found = numbered(AFFECTNET.train_counts, labels, share)
    assert propose_map(found, AFFECTNET.train_counts) == labels
    assert doubt_counts(found, AFFECTNET.train_counts, labels, AFFECTNET.label_maps) is None


def test_another_map_is_doubted_and_the_fitting_one_named():
    found = numbered(AFFECTNET.train_counts, AFFECTNET.label_maps["official"])
    said = doubt_counts(found, AFFECTNET.train_counts, AFFECTNET.label_maps["ferplus-order"], AFFECTNET.label_maps)
    assert said is not None
    assert "0 = neutral, 1 = happy" in said
    assert said.endswith("(label_map: official)")


def test_a_map_without_a_name_is_spelt_out():
    turned = dict(zip(CODES, reversed(CODES.values()), strict=True))
    said = doubt_counts(numbered(RAFDB.train_counts, turned), RAFDB.train_counts, CODES, RAFDB.label_maps)
    assert said is not None
    assert "1 = neutral" in said
    assert "label_map:" not in said


@pytest.mark.parametrize("found", [dict.fromkeys(CODES, 40), {"1": 1000, "4": 900}, {"9": 5, "1": 3}])
def test_counts_that_tell_nothing_raise_no_doubt(found):
    assert doubt_counts(found, RAFDB.train_counts, CODES, RAFDB.label_maps) is None


MAPS = AFFECTNET.label_maps
EVEN = np.full(7, 1 / 7)
LOPSIDED = np.array([0.1, 0, 0.05, 0.2, 0.45, 0.2, 0])  # what a model says that sees nothing, mostly neutral


def answered(truth, chosen, faces=100, skill=0.5, guess=LOPSIDED, seed=0, mixed_up=None):
    """Return the answers of a model that knows a share `skill` of the faces and guesses else, by code.

    What the chosen map calls contempt was dropped; `mixed_up` is a confusion matrix in place of the skill.
    """
    random, table = np.random.default_rng(seed), {}
    knows = skill * np.eye(7) + (1 - skill) * guess if mixed_up is None else mixed_up
    for code, label in truth.items():
        if chosen[code] in LABELS:
            shares = knows[LABELS.index(label)] if label in LABELS else guess
            table[code] = random.multinomial(faces(label) if callable(faces) else faces, shares)
    return table


def rare(label):
    """Return the faces of a label where classes are as uneven as in the release."""
    return AFFECTNET.train_counts[label] // 100


@pytest.mark.parametrize("chosen", list(MAPS))
@pytest.mark.parametrize("truth", list(MAPS))
@pytest.mark.parametrize("faces", [100, rare], ids=["even", "uneven"])
def test_answers_name_the_map_that_numbered_the_faces(truth, chosen, faces):
    said = doubt_answers("v1", answered(MAPS[truth], MAPS[chosen], faces), MAPS[chosen], AFFECTNET)
    if truth == chosen:
        assert said is None
    else:
        assert said is not None
        assert said.startswith("the answers of v1 do not fit its label map; they fit 0 = ")
        assert said.endswith(f"; set datasets.affectnet.label_map: {truth} if that is so")


def test_the_right_map_is_not_doubted_however_few_the_faces_or_weak_the_model():
    trials = [
        answered(MAPS["official"], MAPS["official"], faces, skill, guess, seed)
        for faces in (10, 37, 500)
        for skill in (0, 0.1, 0.3)
        for guess in (EVEN, LOPSIDED)
        for seed in range(15)
    ]
    assert [t for t in trials if doubt_answers("v1", t, MAPS["official"], AFFECTNET)] == []


@pytest.mark.parametrize("faces", [500, rare], ids=["even", "uneven"])
@pytest.mark.parametrize("label", LABELS)
def test_a_model_that_says_one_label_to_everything_doubts_no_map(label, faces):
    guess = np.eye(7)[LABELS.index(label)]
    for truth, chosen in ((one, other) for one in MAPS.values() for other in MAPS.values()):
        assert doubt_answers("v1", answered(truth, chosen, faces, 0, guess), chosen, AFFECTNET) is None


@pytest.mark.parametrize(("faces", "doubted"), [(9, False), (10, True)])
def test_a_few_faces_of_a_class_say_nothing_about_it(faces, doubted):
    said = doubt_answers(
        "v1", answered(MAPS["official"], MAPS["ferplus-order"], faces, 1), MAPS["ferplus-order"], AFFECTNET
    )
    assert (said is not None) == doubted


def test_a_release_without_contempt_shows_six_numbers_under_a_map_that_has_it_elsewhere():
    truth = {code: label for code, label in MAPS["official"].items() if label != "contempt"}
    answers = answered(truth, MAPS["alphabetical"])
    assert sorted(answers) == ["0", "2", "3", "4", "5", "6"]
    said = doubt_answers("v1", answers, MAPS["alphabetical"], AFFECTNET)
    assert said is not None
    assert said.endswith("label_map: official if that is so")


def test_two_numbers_that_were_exchanged_are_spelt_out():
    truth = {**CODES, "3": "happy", "4": "disgust"}
    said = doubt_answers("v1", answered(truth, CODES, 500, 0.8), CODES, RAFDB)
    assert said is not None
    assert "3 = happy, 4 = disgust" in said
    assert "label_map:" not in said


def test_labels_that_a_model_takes_for_each_other_are_not_taken_for_exchanged():
    mixed_up = 0.7 * np.eye(7) + 0.3 * EVEN
    sad, neutral = LABELS.index("sad"), LABELS.index("neutral")
    mixed_up[[sad, neutral]] = 0
    mixed_up[sad, [sad, neutral]] = 0.3, 0.7
    mixed_up[neutral, [sad, neutral]] = 0.5, 0.5
    assert doubt_answers("v1", answered(CODES, CODES, 100_000, mixed_up=mixed_up), CODES, RAFDB) is None


def test_a_model_that_is_worse_than_a_guess_under_the_chosen_map_proposes_none():
    avoids = (1 - np.eye(7)) / 6
    assert doubt_answers("v1", answered(CODES, CODES, 100_000, mixed_up=avoids), CODES, RAFDB) is None


def test_faces_that_show_contempt_count_as_guessed():
    """By the right map; a model takes most of them for happy, whose own number the chosen map drops."""
    smiles = np.array([0, 0, 0, 0.8, 0.2, 0, 0])
    answers = answered(MAPS["official"], MAPS["alphabetical"], 100_000, 0.9, smiles)
    said = doubt_answers("v1", answers, MAPS["alphabetical"], AFFECTNET)
    assert said is not None
    assert "7 = contempt; set datasets.affectnet.label_map: official" in said


def test_a_map_that_nobody_uses_needs_more_evidence():
    turned = dict(zip(CODES, reversed(CODES.values()), strict=True))
    unnamed = [doubt_answers("v1", answered(turned, CODES, 30, skill), CODES, RAFDB) for skill in (0.3, 0.6)]
    named = doubt_answers(
        "v1", answered(MAPS["official"], MAPS["ferplus-order"], 30, 0.3), MAPS["ferplus-order"], AFFECTNET
    )
    assert [said is not None for said in (named, *unnamed)] == [True, False, True]
