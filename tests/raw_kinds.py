"""Raw files as they circulate, but small: tables of FER2013, files in a zip and in a tar; words that they use."""

import io
import tarfile
import zipfile

TABLE_WORDS = (b",", b'"', b"\n", b"\r\n", b" ", b"-", b"256", b"emotion", b"Usage", b"\xef\xbb\xbf", b"\0", b"1_0")
ARCHIVE_WORDS = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"../", b"/", b"\\", b"ustar", b"\x1f\x8b")
FILES = {"train/happy/Training_1.jpg": b"one" * 50, "README": b"read me"}


def tables() -> list[bytes]:
    """Return tables of two rows: as FER2013's is, as a spreadsheet writes it, and in ICML's order of columns."""
    pixels = " ".join(str(number % 256) for number in range(48 * 48))
    lines = [f"{code},{pixels},PublicTest" for code in range(2)]
    quoted = [f'{code},"{pixels}",PublicTest' for code in range(2)]
    other = [f"{code},Training,{pixels}" for code in range(2)]
    return [
        "\n".join(["emotion,pixels,Usage", *lines, ""]).encode(),
        "\r\n".join(["\ufeffemotion,pixels,Usage", *quoted, ""]).encode(),
        "\n".join(["emotion, Usage, pixels", *other]).encode(),
    ]


def archives() -> list[bytes]:
    """Return files in a stored and in a deflated zip, in a tar and in a compressed one."""
    return [*map(_zip, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)), *map(_tar, ("w", "w:gz"))]


def _zip(method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for path, content in FILES.items():
            archive.writestr(path, content)
    return stream.getvalue()


def _tar(mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for path, content in FILES.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
