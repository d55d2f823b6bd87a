"""How far a service is open, as the environment says; read once, when it starts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pipeline.errors import PipelineError, did_you_mean
from pipeline.serving.protection.rates import SECONDS, Rate

KEYS, OPEN, RATE_KEY, RATE_ADDRESS = "FER_KEYS", "FER_OPEN", "FER_RATE_KEY", "FER_RATE_ADDRESS"
CONCURRENCY, BODY_SECONDS, REQUEST_SECONDS = "FER_CONCURRENCY", "FER_BODY_SECONDS", "FER_REQUEST_SECONDS"
CORS, LOG, LOG_CLIENTS = "FER_CORS", "FER_LOG", "FER_LOG_CLIENTS"
PROXIES = "FORWARDED_ALLOW_IPS"  # uvicorn's: whose X-Forwarded-For counts
MOST_SECONDS = 3600

LogForm = Literal["text", "json"]


@dataclass(frozen=True)
class Exposure:
    """Who may ask, how often and for how long.

    `keys` is the file of the keys; without one, and unless `open`, only clients of this machine are answered. Rates
    are None where there is no limit.
    """

    keys: Path | None = None
    open: bool = False
    rate_key: Rate | None = None
    rate_address: Rate | None = None
    concurrency: int = 64
    body_seconds: int = 30
    request_seconds: int = 60
    origins: tuple[str, ...] = ()
    log_form: LogForm = "text"
    log_clients: bool = False

    @property
    def grace_seconds(self) -> int:
        """Seconds in which all that was taken has an answer, or a refusal, whatever happens."""
        return self.request_seconds + 5


def read_exposure(environment: Mapping[str, str]) -> Exposure:
    """Read the variables; raises PipelineError with the one that can not be read, or two that do not fit together."""
    keys = environment.get(KEYS)
    exposure = Exposure(
        keys=Path(keys).absolute() if keys else None,
        open=_choice(environment, OPEN, ("false", "true")) == "true",
        rate_key=_rate(environment, RATE_KEY),
        rate_address=_rate(environment, RATE_ADDRESS),
        concurrency=_number(environment, CONCURRENCY, Exposure.concurrency, 10_000),
        body_seconds=_number(environment, BODY_SECONDS, Exposure.body_seconds, MOST_SECONDS),
        request_seconds=_number(environment, REQUEST_SECONDS, Exposure.request_seconds, MOST_SECONDS),
        origins=tuple(_origin(part.strip()) for part in environment.get(CORS, "").split(",") if part.strip()),
        log_form="json" if _choice(environment, LOG, ("text", "json")) == "json" else "text",
        log_clients=_choice(environment, LOG_CLIENTS, ("false", "true")) == "true",
    )
    if exposure.open and exposure.keys:
        raise PipelineError(f"{OPEN} lets everybody in and {KEYS} asks for keys; unset one of them")
    if exposure.rate_key and not exposure.keys:
        raise PipelineError(f"{RATE_KEY} limits each key, and there are none; set {KEYS}, or limit by {RATE_ADDRESS}")
    if exposure.rate_address and "*" in environment.get(PROXIES, ""):
        raise PipelineError(
            f"{PROXIES} believes everybody who their address is, so that {RATE_ADDRESS} would limit nobody; name the "
            "address of your proxy there"
        )
    if exposure.request_seconds < exposure.body_seconds:
        raise PipelineError(
            f"{REQUEST_SECONDS} ({exposure.request_seconds}) is for the upload and the answer together, so it can not "
            f"be less than {BODY_SECONDS} ({exposure.body_seconds})"
        )
    return exposure


def _choice(environment: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = environment.get(name) or choices[0]
    if value not in choices:
        raise PipelineError(f"{name} must be {' or '.join(choices)}, not {value!r}{did_you_mean(value, choices)}")
    return value


def _number(environment: Mapping[str, str], name: str, default: int, most: int) -> int:
    value = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= most:
        raise PipelineError(f"{name} must be a whole number from 1 to {most}, not {value!r}")
    return int(value)


def _rate(environment: Mapping[str, str], name: str) -> Rate | None:
    value = environment.get(name)
    if not value:
        return None
    parts = re.fullmatch(r"([1-9][0-9]{0,8})/([a-z]+)", value)
    if not parts or parts[2] not in SECONDS:
        raise PipelineError(f"{name} must be a number for a {' or '.join(SECONDS)}, such as 600/minute, not {value!r}")
    return Rate(int(parts[1]), SECONDS[parts[2]])


def _origin(value: str) -> str:
    """Check an origin as browsers send it; `*` is none: whoever wants everybody's pages to ask must name them."""
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and parts.hostname and value == f"{parts.scheme}://{parts.netloc}"
        sound = sound and (parts.port is None or parts.port > 0) and "@" not in value and value == value.lower()
    except ValueError:
        sound = False
    if not sound or "*" in value:
        raise PipelineError(
            f"{CORS} must name origins as browsers send them, such as https://app.example or http://localhost:8080, "
            f"with commas between them; {value!r} is none"
        )
    return value
