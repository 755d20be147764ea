"""Who looks at the page: the person and, where calls need one, the API key, in cookies that scripts cannot read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlsplit

from fastapi import Depends, Request
from fastapi.responses import Response

from serving.gateway.access import Scope
from serving.gateway.problems import Problem
from serving.gateway.routes.dependencies import service_of

PERSON, KEY = "zy_person", "zy_key"
_DAYS_S = 30 * 86_400


def person_of(request: Request) -> str:
    """Id of the person that is signed in; "" where nobody is."""
    return unquote(request.cookies.get(PERSON, ""))


def sign_in(response: Response, request: Request, user_id: str, key: str = "") -> None:
    """Remember the person, and a key where one was given, for thirty days."""
    _remember(response, request, PERSON, quote(user_id, safe=""))
    if key:
        _remember(response, request, KEY, key)


def sign_out(response: Response) -> None:
    """Forget both."""
    for name in (PERSON, KEY):
        response.delete_cookie(name, path="/")


def page_permitted(scope: Scope) -> list[Any]:
    """`dependencies` of a page: the key of the cookie has the scope, requests that change something come from our own
    pages."""

    async def check(request: Request) -> None:
        service = service_of(request)
        if request.method != "GET":
            refuse_other_origins(request)
        key_id = await service.access.check(request.cookies.get(KEY), scope)
        service.rate_limit.take(key_id or (request.client.host if request.client else ""))

    checked: Callable[..., Awaitable[None]] = check
    return [Depends(checked)]


def refuse_other_origins(request: Request) -> None:
    """Raises Problem 403 for a form that another site has sent.

    Browsers say whose page has sent a form in Sec-Fetch-Site; older ones, and all where HTTP is plain, in Origin, which
    would be "null" if our pages told their own site no referrer; the middleware's policy has them tell it.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
    if not is_ours:
        raise Problem(403, "other-origin", "this request comes from a page of another site")


def _remember(response: Response, request: Request, name: str, value: str) -> None:
    response.set_cookie(
        name, value, max_age=_DAYS_S, path="/", httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )


PersonOf = Annotated[str, Depends(person_of)]
