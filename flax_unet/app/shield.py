"""Protects the page in browsers: from other sites, and from what it might be made to load."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The page loads nothing from elsewhere, runs no script but its own, and is in no other
# page's frame.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self)",
    "Referrer-Policy": "same-origin",  # without any, browsers hide the Origin of a beacon
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_LINKED = ("/", "/card")  # what other sites may link to


class Shield:
    """Sends the headers, and refuses what other sites' pages request."""

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()) -> None:
        """`names` are those of the page behind a proxy; *.example.org is all below it."""
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                new = [(name.lower().encode(), of.encode()) for name, of in _HEADERS.items()]
                message["headers"] = [*message["headers"], *new]
            await send(message)

        if scope["type"] == "http" and self._is_foreign(scope):
            refused = PlainTextResponse("Another site's page may not use this one.", 403)
            await refused(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _is_foreign(self, scope: Scope) -> bool:
        """Whether another site's page sent a request that is more than a link to this one."""
        headers = Headers(scope=scope)
        site = headers.get("Sec-Fetch-Site")
        if site in ("cross-site", "same-site"):
            is_link = headers.get("Sec-Fetch-Mode") == "navigate" and scope["method"] == "GET"
            return not (is_link and scope["path"] in _LINKED)
        origin = headers.get("Origin")
        # Browsers vouch for the site, also where a proxy has changed Host. They do so on https and
        # on this machine; elsewhere Origin is all there is.
        if site == "same-origin" or origin is None:
            return False
        try:
            at = urlsplit(origin)
            name = at.hostname or ""
        except ValueError:  # brackets without an address
            return True
        is_named = any(
            name.endswith(of[1:]) if of.startswith("*.") else name == of for of in self._names
        )
        return at.netloc.lower() != headers.get("Host", "").lower() and not is_named
