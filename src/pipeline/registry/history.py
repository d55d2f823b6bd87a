"""What became of a registered model's champion, event by event; its aliases follow from it, and not the other way.

The events are versions of a second registered model, `<name>-history`, because the registry numbers these one by one,
whoever asks. Each says which event was the last that its writer knew. Of two that know the same one, only the first
counts: the second was decided by what is no more so. So two promotions at once can not both win, and a writer that is
killed leaves either no event, or one that the next `settle` carries out.
"""

import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.errors import PipelineError
from pipeline.registry.registry import CHAMPION, PREVIOUS, ensure_model, find_champion, find_version, iter_versions

SUFFIX = "-history"
NONE = "0"  # the number of the event before the first
LOST = " (lost)"
LONGEST = 5000  # characters of a description, in databases that count

Kind = Literal["promotion", "forced promotion", "rollback"]


@dataclass(frozen=True)
class Event:
    """One change of the champion: to which version of the model, from which (empty: there was none), why and when.

    `weights_sha256` are those of the new champion; `at` is in ISO 8601; `token` tells this event from any other.
    """

    number: str
    kind: Kind
    version: str
    weights_sha256: str
    previous: str
    why: str
    at: str
    token: str


def read_history(client: MlflowClient, name: str) -> list[Event]:
    """Return the events of a registered model that count, the oldest first."""
    events: list[Event] = []
    for entry in sorted(iter_versions(client, name + SUFFIX), key=lambda entry: int(entry.version)):
        last = events[-1].number if events else NONE
        if entry.tags.get("after") == last:
            events.append(_event(entry))
    return events


def append(client: MlflowClient, last: Event | None, kind: Kind, champion: ModelVersion, why: str) -> Event:
    """Write down that a version takes the champion's place.

    Args:
        client: of the registry.
        last: the last event that the decision knows of; None if there is none yet.
        kind: what happened.
        champion: the version.
        why: in a sentence.

    Raises:
        PipelineError: if another event came first; this one does then not count.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    name, version = champion.name, str(champion.version)
    weights_sha256 = champion.tags.get("weights_sha256", "unknown")
    token = uuid.uuid4().hex  # the client may ask twice where an answer is lost, and either entry is this event
    event = Event("", kind, version, weights_sha256, last.version if last else "", why, at, token)
    _write(client, champion, event, last.number if last else NONE)
    for written in read_history(client, name):
        if written.token == token:
            return written
    raise PipelineError(
        f"the champion of {name} was changed by somebody else in the meantime; run again, to decide by what is so now"
    )


def is_cut_off(client: MlflowClient, name: str, events: list[Event]) -> bool:
    """Whether a registry knows only the first of some events, or none: it was lost, and is not yet restored."""
    known = [event.token for event in read_history(client, name)]
    return len(known) < len(events) and known == [event.token for event in events[: len(known)]]


def replay(client: MlflowClient, champion: ModelVersion, events: list[Event]) -> None:
    """Write events into a registry that was lost, from where it is cut off, with the last champion's new number.

    The other versions are gone; their numbers are marked, as new ones will be given again.
    """
    known = read_history(client, champion.name)
    before = known[-1].number if known else NONE
    for event in events[len(known) :]:
        number = f"{event.version.removesuffix(LOST)}{LOST}" if event != events[-1] else str(champion.version)
        before = _write(client, champion, replace(event, version=number, previous=""), before)


def settle(client: MlflowClient, name: str) -> Event | None:
    """Let the aliases say what the last event says, and return it; nothing where there is none yet.

    A champion that was made by hand, before there was any event, is the first. Of those who settle at once, one may not
    know the last event yet: so each looks again behind what it moved, until there is nothing to move.
    """
    while True:
        events = read_history(client, name)
        if not events:
            champion = find_champion(client, name)
            if champion is None:
                return None
            with suppress(PipelineError):  # somebody else wrote it down meanwhile
                append(client, None, "promotion", champion, "was champion before there was a history")
            continue
        last = events[-1]
        aliases = {CHAMPION: last.version, PREVIOUS: last.previous}
        moved = [_move(client, name, alias, version) for alias, version in aliases.items() if version]
        if not any(moved):
            return last


def find_set_aside(client: MlflowClient, name: str) -> dict[str, Event]:
    """Return the champions that a person put another in the place of, rolling back or forcing it, with that event.

    They are told by the SHA-256 of their weights, and those that became champion again are none of them any more.
    """
    found: dict[str, Event] = {}
    before = None
    for event in read_history(client, name):
        if event.kind != "promotion" and before:
            found[before.weights_sha256] = event
        found.pop(event.weights_sha256, None)
        before = event
    return found


def _move(client: MlflowClient, name: str, alias: str, version: str) -> bool:
    """Give an alias to a version, and return whether there was need to."""
    found = find_version(client, name, version)
    if found is None or alias in found.aliases:
        return False
    try:
        client.set_registered_model_alias(name, alias, version)
    except MlflowException:  # PostgreSQL refuses one of two who make an alias at once; by now it can be moved
        client.set_registered_model_alias(name, alias, version)
    return True


def _write(client: MlflowClient, champion: ModelVersion, event: Event, after: str) -> str:
    name = champion.name + SUFFIX
    ensure_model(client, name)
    entry = client.create_model_version(
        name,
        f"models:/{champion.name}/{champion.version}",
        tags={**asdict(event), "after": after},
        description=f"{event.kind} of version {event.version}: {event.why}"[:LONGEST],
    )
    return str(entry.version)


def _event(entry: ModelVersion) -> Event:
    told: dict[str, Any] = {field.name: entry.tags[field.name] for field in fields(Event)}
    return Event(**{**told, "number": str(entry.version)})
