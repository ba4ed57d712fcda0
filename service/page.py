"""The page: one static file with its style and script inside, allowed by their hashes alone."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

FILE = Path(__file__).parent / "static" / "index.html"


def content_security_policy(html: str) -> str:
    """Allows exactly the inline script and style of `html`, requests to this server, and nothing else."""

    def hashes(tag: str) -> str:
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page_router() -> APIRouter:
    html = FILE.read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": content_security_policy(html)}
    router = APIRouter()

    @router.get("/", include_in_schema=False, response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    return router
