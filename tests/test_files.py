from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import written_whole
from pipeline.sources.raw import open_raw


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no credentials where AWS's tools look."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("stranger")
def test_s3_without_its_package_or_credentials_is_a_sentence_with_what_to_do() -> None:
    with pytest.raises(PipelineError, match=r"^s3://faces/raw/rafdb/manifest\.json can not be reached .*ACCESS_KEY_ID"):
        open_raw("s3://faces/raw/rafdb")
    with (
        pytest.raises(PipelineError, match=r"^s3://faces/rafdb\.parquet can not be reached .*ACCESS_KEY_ID"),
        written_whole("s3://faces/rafdb.parquet") as file,
    ):
        file.write_bytes(b"a table")


def test_address_of_an_unknown_kind_is_named() -> None:
    with pytest.raises(PipelineError, match=r"^s4:.* can not be reached \(ValueError: Protocol not known: s4\)$"):
        open_raw("s4://faces")
