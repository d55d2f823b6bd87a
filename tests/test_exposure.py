import re
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.serving.protection import exposure
from pipeline.serving.protection.exposure import Exposure, read_exposure
from pipeline.serving.protection.rates import Rate


def test_nothing_said_is_a_service_for_its_own_machine() -> None:
    assert read_exposure({}) == read_exposure({"FER_OPEN": "", "FER_CORS": "", "FER_RATE_KEY": ""}) == Exposure()
    assert not Exposure().open
    assert Exposure().keys is None


def test_every_variable_is_read() -> None:
    said = {
        "FER_KEYS": "keys.json",
        "FER_RATE_KEY": "600/minute",
        "FER_RATE_ADDRESS": "5/second",
        "FER_CONCURRENCY": "8",
        "FER_BODY_SECONDS": "10",
        "FER_REQUEST_SECONDS": "20",
        "FER_CORS": "https://app.example, http://localhost:8080",
        "FER_LOG": "json",
        "FER_LOG_CLIENTS": "true",
    }
    assert read_exposure(said) == Exposure(
        keys=Path("keys.json").absolute(),
        rate_key=Rate(600, 60),
        rate_address=Rate(5, 1),
        concurrency=8,
        body_seconds=10,
        request_seconds=20,
        origins=("https://app.example", "http://localhost:8080"),
        log_form="json",
        log_clients=True,
    )
    assert read_exposure({"FER_OPEN": "true"}).open


def test_every_variable_has_its_line_in_the_documentation() -> None:
    read = {value for value in vars(exposure).values() if isinstance(value, str) and value.startswith("FER_")}
    table = (Path(__file__).parents[1] / "docs" / "serving.md").read_text().split("| variable |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(FER_\w+)`", table)) == read


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"FER_OPEN": "yes"}, "FER_OPEN must be false or true, not 'yes'"),
        ({"FER_OPEN": "True"}, "(did you mean true?)"),
        ({"FER_OPEN": "true", "FER_KEYS": "keys.json"}, "unset one of them"),
        ({"FER_RATE_ADDRESS": "600"}, "FER_RATE_ADDRESS must be a number for a second or minute or hour or day"),
        ({"FER_RATE_ADDRESS": "0/minute"}, "such as 600/minute, not '0/minute'"),
        ({"FER_RATE_ADDRESS": "6/fortnight"}, "not '6/fortnight'"),
        ({"FER_RATE_KEY": "600/minute"}, "FER_RATE_KEY limits each key, and there are none"),
        ({"FER_RATE_ADDRESS": "6/hour", "FORWARDED_ALLOW_IPS": "*"}, "name the address of your proxy there"),
        ({"FER_CONCURRENCY": "0"}, "FER_CONCURRENCY must be a whole number from 1 to 10000"),
        ({"FER_BODY_SECONDS": "1.5"}, "FER_BODY_SECONDS must be a whole number from 1 to 3600, not '1.5'"),
        ({"FER_REQUEST_SECONDS": "²"}, "not '²'"),
        ({"FER_REQUEST_SECONDS": "20"}, "it can not be less than FER_BODY_SECONDS (30)"),
        ({"FER_CORS": "*"}, "'*' is none"),
        ({"FER_CORS": "https://*.example"}, "FER_CORS must name origins"),
        ({"FER_CORS": "https://app.example/"}, "FER_CORS must name origins"),
        ({"FER_CORS": "app.example"}, "FER_CORS must name origins"),
        ({"FER_CORS": "https://me@app.example"}, "FER_CORS must name origins"),
        ({"FER_CORS": "https://app.example:99999"}, "FER_CORS must name origins"),
        ({"FER_CORS": "https://[::1"}, "FER_CORS must name origins"),
        ({"FER_LOG": "xml"}, "FER_LOG must be text or json"),
    ],
)
def test_what_can_not_be_meant_is_one_sentence(said: dict[str, str], words: str) -> None:
    with pytest.raises(PipelineError) as error:
        read_exposure(said)
    assert words in str(error.value)
