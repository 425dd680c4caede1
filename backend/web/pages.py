"""`GET /`: a plain page that says what runs here and where to go on."""

from __future__ import annotations

from html import escape

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Voice agent backend</title>
<style>
  body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1.5rem;
         color: #1d2329; background: #fff; }}
  code {{ background: #eef1f4; padding: .1em .35em; border-radius: .25em; }}
  a {{ color: #0b5cad; }}
  @media (prefers-color-scheme: dark) {{
    body {{ color: #e3e7eb; background: #14181c; }} code {{ background: #252b31; }} a {{ color: #7ab8f5; }}
  }}
</style>
<h1>Voice agent backend</h1>
<p>This server answers and places telephone calls with voice agents. Version {version}.</p>
<ul>
  <li><a href="/docs">The API</a>: place calls, look at them, act on live ones, change agents</li>
  <li><a href="/api/v1/health">Health</a>: database, Telnyx, every speech route</li>
  <li><a href="/metrics">Metrics</a> for Prometheus</li>
</ul>
<p>Telnyx sends its webhooks to <code>POST /webhooks/telnyx</code> and its audio to <code>/media/…</code>.</p>
</html>
"""


def pages_router(*, version: str) -> APIRouter:
    """The page at `/`."""
    router = APIRouter(include_in_schema=False)
    page = _PAGE.format(version=escape(version))

    @router.get("/", response_class=HTMLResponse)
    async def front_page() -> HTMLResponse:
        return HTMLResponse(
            page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        )

    return router
