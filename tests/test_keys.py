import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.serving.protection.keys import KeyRing, add_key, read_keys, revoke_key


def test_a_key_opens_under_its_name_until_it_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    phone, tablet = add_key(file, "phone"), add_key(file, "tablet")
    ring = KeyRing(file)
    assert (ring.name_of(phone), ring.name_of(tablet)) == ("phone", "tablet")
    assert ring.name_of(phone[:-1]) is ring.name_of("") is ring.name_of("ключ") is None
    revoke_key(file, "phone")
    assert (ring.name_of(phone), ring.name_of(tablet)) == (None, "tablet")
    again = add_key(file, "phone")
    assert (ring.name_of(phone), ring.name_of(again)) == (None, "phone")


def test_only_hashes_are_kept(tmp_path: Path) -> None:
    text = add_key(tmp_path / "keys.json", "phone")
    (key,) = json.loads((tmp_path / "keys.json").read_text())["keys"]
    assert key["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert text[4:] not in (tmp_path / "keys.json").read_text()
    assert len({add_key(tmp_path / "keys.json", f"k{number}") for number in range(50)}) == 50
    assert len(text) == len("fer_") + 43  # 256 bits in base64


@pytest.mark.parametrize("content", [None, "", "[]", '{"keys": [{"name": "phone"}]}', '{"keys": [3]}', '{"keys": {'])
def test_a_file_that_can_not_be_read_any_more_lets_nobody_in(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    text = add_key(file, "phone")
    ring, sound = KeyRing(file), file.read_text()
    file.unlink() if content is None else file.write_text(content)
    for _ in range(2):  # also when it has been looked at
        with pytest.raises(PipelineError, match="keys.json"):
            ring.name_of(text)
    with pytest.raises(PipelineError, match=r"there is no file|is damaged"):
        KeyRing(file)
    file.write_text(sound)
    assert ring.name_of(text) == "phone"


@pytest.mark.parametrize("change", ["..", "", "a b", "ä", "a" * 65, "-x", "a\n"])
def test_a_name_that_would_not_read_well_in_a_log_is_refused(change: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="can not be a key's name"):
        add_key(tmp_path / "keys.json", change)
    assert not list(tmp_path.iterdir())


def run(*arguments: str, file: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["keys", *arguments], env={"FER_KEYS": str(file)})
    return done.exit_code, done.output


def test_the_commands_make_list_and_revoke_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    code, said = run("add", "phone", file=file)
    assert code == 0
    text = said.splitlines()[0]
    assert KeyRing(file).name_of(text) == "phone"
    code, said = run("list", file=file)
    assert (code, said) == (0, f"phone  made {read_keys(file)[0].made}\n")
    assert run("revoke", "phone", file=file)[0] == 0
    assert run("list", file=file) == (0, f"{file} has no keys\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "phone"], "has a key called phone; revoke it first"),
        (["revoke", "phon"], "has no key called phon (did you mean phone?)"),
        (["add", "my phone"], "can not be a key's name"),
        (["list", "--file", "nowhere.json"], "there is no file of keys at nowhere.json"),
    ],
)
def test_what_can_not_be_done_is_one_sentence(arguments: list[str], words: str, tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "phone")
    before = (tmp_path / "keys.json").read_text()
    code, said = run(*arguments, file=tmp_path / "keys.json")
    assert code == 1
    assert words in said
    assert (tmp_path / "keys.json").read_text() == before


def test_a_file_that_may_not_be_read_says_so(unprivileged: Path) -> None:
    file = unprivileged / "keys.json"
    add_key(file, "phone")
    file.chmod(0)
    with pytest.raises(PipelineError, match="can not be read: Permission denied"):
        read_keys(file)
