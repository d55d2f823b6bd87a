"""The record of champions, in a real registry."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from pipeline.errors import PipelineError
from pipeline.registry import tracking
from pipeline.registry.history import append, find_set_aside, read_history, settle

NAME = "expression-classifier-sample"


@pytest.fixture
def client(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = tracking.connect()
    client.create_registered_model(NAME)
    return client


def made(client, weights):
    return client.create_model_version(NAME, "s3://nowhere/model", tags={"weights_sha256": weights})


def aliases(client):
    return {alias: str(number) for alias, number in client.get_registered_model(NAME).aliases.items()}


def test_without_events_there_is_nothing(client):
    assert read_history(client, NAME) == []
    assert settle(client, NAME) is None
    assert find_set_aside(client, NAME) == {}


def test_the_aliases_follow_the_last_event(client):
    one, two = made(client, "a"), made(client, "b")
    first = append(client, None, "promotion", one, "there is no champion yet")
    assert settle(client, NAME) == first
    assert aliases(client) == {"champion": "1"}
    second = append(client, first, "promotion", two, "it is better")
    assert aliases(client) == {"champion": "1"}  # until somebody carries it out
    assert settle(client, NAME) == second
    assert aliases(client) == {"champion": "2", "previous": "1"}
    assert [(event.version, event.previous, event.why) for event in read_history(client, NAME)] == [
        ("1", "", "there is no champion yet"),
        ("2", "1", "it is better"),
    ]


def test_an_alias_that_was_moved_by_hand_is_put_back(client):
    one, two = made(client, "a"), made(client, "b")
    first = append(client, None, "promotion", one, "first")
    append(client, first, "promotion", two, "better")
    client.set_registered_model_alias(NAME, "champion", "1")
    settle(client, NAME)
    assert aliases(client) == {"champion": "2", "previous": "1"}


def test_of_two_that_know_the_same_only_the_first_counts(client):
    one, two, three = (made(client, weights) for weights in "abc")
    first = append(client, None, "promotion", one, "first")
    append(client, first, "promotion", two, "better")
    with pytest.raises(PipelineError, match=f"the champion of {NAME} was changed by somebody else in the meantime"):
        append(client, first, "promotion", three, "better, too")
    settle(client, NAME)
    assert aliases(client) == {"champion": "2", "previous": "1"}
    assert [event.version for event in read_history(client, NAME)] == ["1", "2"]
    # Who looks again may go on from there.
    append(client, read_history(client, NAME)[-1], "promotion", three, "still better")
    assert [event.version for event in read_history(client, NAME)] == ["1", "2", "3"]


RIVALS = """
import os, sys
from pipeline.registry import history, tracking

def write(version):
    client = tracking.connect()
    champion = client.get_model_version(sys.argv[1], version)
    os.write(ready, b"+")
    os.read(waits, 1)  # until all are ready, and this is closed
    try:
        history.append(client, None, "promotion", champion, "mine")
        print(version, "won", flush=True)
    except Exception as error:
        print(version, "lost:", error, flush=True)

counted, ready = os.pipe()
waits, go = os.pipe()
rivals = []
for version in sys.argv[2:]:  # each in a process of its own; what they import is imported once
    if not (rival := os.fork()):
        os.close(go)
        write(version)
        os._exit(0)
    rivals.append(rival)
for _ in rivals:
    os.read(counted, 1)
os.close(go)
for rival in rivals:
    os.waitpid(rival, 0)
"""


def test_of_processes_that_write_at_once_exactly_one_wins(client):
    versions = [str(made(client, weights).version) for weights in "abcd"]
    command = [sys.executable, "-c", RIVALS, NAME, *versions]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    said = dict(line.split(" ", 1) for line in lines)
    assert set(said) == set(versions)
    assert sum(outcome == "won" for outcome in said.values()) == 1, said
    assert sum("was changed by somebody else" in outcome for outcome in said.values()) == 3, said
    (event,) = read_history(client, NAME)
    assert said[event.version] == "won"


def test_all_who_settle_at_once_agree(client):
    for name in ("first", "second", "third"):
        client.create_registered_model(name)
        one, two = (client.create_model_version(name, "s3://nowhere/model") for _ in range(2))
        client.set_registered_model_alias(name, "champion", "1")  # by hand
        with ThreadPoolExecutor(8) as pool:
            (first,) = set(pool.map(lambda _: settle(client, name), range(8)))  # noqa: B023
        append(client, first, "promotion", two, "better")
        with ThreadPoolExecutor(8) as pool:
            (last,) = set(pool.map(lambda _: settle(client, name), range(8)))  # noqa: B023
        assert (first.version, last.version, last.previous) == (str(one.version), str(two.version), "1")
        assert len(read_history(client, name)) == 2


def test_who_settles_late_does_not_undo_what_came_meanwhile(client, monkeypatch):
    one, two, three = (made(client, weights) for weights in "abc")
    settled = append(client, None, "promotion", one, "first")
    settle(client, NAME)
    second = append(client, settled, "promotion", two, "better")
    move = MlflowClient.set_registered_model_alias

    def overtaken(*arguments):
        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", move)
        append(client, second, "promotion", three, "still better")  # somebody else, from beginning to end
        settle(client, NAME)
        return move(*arguments)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", overtaken)
    assert settle(client, NAME).version == "3"
    assert aliases(client) == {"champion": "3", "previous": "2"}


def test_what_a_person_set_aside_is_known_by_its_weights_until_it_comes_back(client):
    one, two = made(client, "a"), made(client, "b")
    first = append(client, None, "promotion", one, "first")
    second = append(client, first, "promotion", two, "better")
    assert find_set_aside(client, NAME) == {}
    third = append(client, second, "rollback", one, "it takes children for old")
    assert find_set_aside(client, NAME) == {"b": third}
    fourth = append(client, third, "forced promotion", two, "there are no children here")
    assert find_set_aside(client, NAME) == {"a": fourth}


def test_an_event_that_was_written_twice_since_its_answer_was_lost_counts_once(client, monkeypatch):
    one = made(client, "a")
    create = MlflowClient.create_model_version

    def twice(*arguments, **named):
        create(*arguments, **named)
        return create(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_model_version", twice)
    first = append(client, None, "promotion", one, "first")
    assert read_history(client, NAME) == [first]


def test_a_long_history_is_read_whole(client, monkeypatch):
    one = made(client, "a")
    last = None
    for number in range(5):
        last = append(client, last, "promotion", one, str(number))
    search = MlflowClient.search_model_versions
    monkeypatch.setattr(MlflowClient, "search_model_versions", lambda *a, **k: search(*a, **{**k, "max_results": 2}))
    assert [event.why for event in read_history(client, NAME)] == list("01234")
