import pytest

from pipeline.cards.card_facts import training_facts

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("facts", "tags", "expected"),
    [
        ({}, {"seconds": "61.5", "git_commit": COMMIT, "git_dirty": "true"}, (61.5, COMMIT, True)),
        ({}, {"git_commit": "unknown", "git_dirty": "unknown"}, (None, None, None)),
        ({"git_commit": COMMIT, "git_dirty": "false"}, {"git_commit": "unknown"}, (None, COMMIT, False)),
        ({"git_commit": COMMIT}, {"git_commit": OTHER}, (None, OTHER, None)),
        ({}, {}, (None, None, None)),
    ],
)
def test_the_run_is_asked_first_and_then_the_weights(facts, tags, expected):
    assert tuple(training_facts(facts, tags).values()) == expected
