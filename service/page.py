"""The page: static files that load nothing from elsewhere, and a policy that holds the browser to it."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Scripts, style and requests of this server only; nothing inline, so that no text can become code."""


def page_router() -> APIRouter:
    """`GET /` and one route for each file that it loads. The files are read once, here."""
    router = APIRouter()
    html = HTMLResponse((FOLDER / "index.html").read_bytes(), headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})
    _serve(router, "/", html)
    for file in sorted(FOLDER.iterdir()):
        if media_type := MEDIA_TYPES.get(file.suffix):
            _serve(router, f"/static/{file.name}", Response(file.read_bytes(), media_type=media_type))
    return router


def _serve(router: APIRouter, path: str, answer: Response) -> None:
    async def serve() -> Response:
        return Response(answer.body, headers=dict(answer.headers))

    router.add_api_route(path, serve, methods=["GET"], include_in_schema=False)
