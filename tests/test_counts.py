import pytest

from pipeline.sources import SOURCES
from pipeline.sources.counts import doubt, propose_map

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
    assert doubt(found, AFFECTNET.train_counts, labels, AFFECTNET.label_maps) is None


def test_another_map_is_doubted_and_the_fitting_one_named():
    found = numbered(AFFECTNET.train_counts, AFFECTNET.label_maps["official"])
    said = doubt(found, AFFECTNET.train_counts, AFFECTNET.label_maps["ferplus-order"], AFFECTNET.label_maps)
    assert said is not None
    assert "0 = neutral, 1 = happy" in said
    assert said.endswith("(label_map: official)")


def test_a_map_without_a_name_is_spelt_out():
    turned = dict(zip(CODES, reversed(CODES.values()), strict=True))
    said = doubt(numbered(RAFDB.train_counts, turned), RAFDB.train_counts, CODES, RAFDB.label_maps)
    assert said is not None
    assert "1 = neutral" in said
    assert "label_map:" not in said


@pytest.mark.parametrize("found", [dict.fromkeys(CODES, 40), {"1": 1000, "4": 900}, {"9": 5, "1": 3}])
def test_counts_that_tell_nothing_raise_no_doubt(found):
    assert doubt(found, RAFDB.train_counts, CODES, RAFDB.label_maps) is None
