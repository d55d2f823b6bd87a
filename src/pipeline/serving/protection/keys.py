"""Keys of a service: a file of their hashes, in which each has a name and can be revoked by it.

A key is 256 random bits, so that a plain SHA-256 of it is as safe to keep as a slow, salted hash would be of a
password: slowness and salt protect what can be guessed or stands in a list, and these bits can not and do not. It also
costs a request microseconds instead of a tenth of a second, which a stranger could else make the service spend.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, did_you_mean
from pipeline.files import read_json, write_json

PREFIX = "fer_"  # by which scanners of repositories and logs know one
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """What is kept of a key: its name, the SHA-256 of its text (64 hexadecimal digits), and when it was made."""

    name: str
    sha256: str
    made: str


def read_keys(file: Path) -> list[Key]:
    """Read a file of keys; raises PipelineError if it is missing or damaged."""
    try:
        return [_read(entry) for entry in read_json(file)["keys"]]
    except FileNotFoundError as error:
        raise PipelineError(f"there is no file of keys at {file}; `pipeline keys add NAME` makes one") from error
    except OSError as error:
        raise PipelineError(f"the file of keys {file} can not be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise PipelineError(f"the file of keys {file} is damaged; `pipeline keys add NAME` makes another") from error


def add_key(file: Path, name: str) -> str:
    """Make a key, keep its hash in a file, which need not exist yet, and return the key: it is told only here.

    Raises:
        PipelineError: if the name is taken or can not be one, or the file can not be read or written.
    """
    if not NAME.fullmatch(name):
        raise PipelineError(
            f"{name[:80]!r} can not be a key's name: up to 64 letters, digits, dots, hyphens, underscores and @, the "
            "first a letter or digit"
        )
    keys = read_keys(file) if file.exists() else []
    if name in {key.name for key in keys}:
        raise PipelineError(f"{file} has a key called {name}; revoke it first, or choose another name")
    text = PREFIX + secrets.token_urlsafe(32)
    _write(file, [*keys, Key(name, _hash(text), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")])
    return text


def revoke_key(file: Path, name: str) -> None:
    """Take a key out of a file; raises PipelineError if it has none of that name, or can not be read or written."""
    keys = read_keys(file)
    names = [key.name for key in keys]
    if name not in names:
        raise PipelineError(f"{file} has no key called {name}{did_you_mean(name, names)}")
    _write(file, [key for key in keys if key.name != name])


class KeyRing:
    """The keys in a file, which is looked at before each use: what is revoked opens nothing from then on."""

    def __init__(self, file: Path) -> None:
        """Read the file; raises PipelineError if it can not be read."""
        self._file = file
        self._look()

    def name_of(self, text: str) -> str | None:
        """Return the name of a key, or None if it is none of these.

        Raises:
            PipelineError: if the file can not be read any more. It might have been changed to revoke a key, so the
                former ones do not count then.
        """
        stamp = self._stamp_now()
        if not stamp or stamp != self._stamp:
            self._look()
        digest = _hash(text)
        # All are compared, each in constant time, so that how long it takes tells nothing.
        names = [key.name for key in self._keys if hmac.compare_digest(key.sha256, digest)]
        return names[0] if names else None

    def _look(self) -> None:
        self._stamp: tuple[int, ...] = ()
        stamp = self._stamp_now()  # before reading: what changes meanwhile is read again
        self._keys = read_keys(self._file)
        self._stamp = stamp

    def _stamp_now(self) -> tuple[int, ...]:
        try:
            now = self._file.stat()
        except OSError:
            return ()
        return now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size


def _read(entry: Any) -> Key:
    key = Key(**entry)
    if not NAME.fullmatch(key.name) or not HASH.fullmatch(key.sha256):
        raise ValueError(key)
    return key


def _write(file: Path, keys: list[Key]) -> None:
    write_json(file, {"keys": [asdict(key) for key in keys]})


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
