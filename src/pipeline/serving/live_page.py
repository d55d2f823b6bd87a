"""The page at `/live`: it opens the camera, asks the live session, and draws what is answered."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

FILE = Path(__file__).parent / "live.html"


async def show_live(_: Request) -> Response:
    """Return the page. Its browser runs the page's own script alone, and lets it ask nobody but this service."""
    page, policy = _page()
    headers = {
        "content-security-policy": policy,
        "permissions-policy": "camera=(self), microphone=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
    }
    return Response(page, media_type="text/html", headers=headers)


@cache
def _page() -> tuple[str, str]:
    """Return the page and the policy that allows its own script and style, by their hashes, and nothing else."""
    page = FILE.read_text(encoding="utf-8")
    script, style = (_hash(page, name) for name in ("script", "style"))
    allowed = f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:"
    return page, f"{allowed}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _hash(page: str, name: str) -> str:
    (content,) = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
