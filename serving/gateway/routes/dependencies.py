"""What routes take from a request: the service, the caller's permission, the budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from serving.gateway.api_keys import Scope
from serving.gateway.schemas import Id
from serving.gateway.service import Service

_bearer = HTTPBearer(auto_error=False, description="an API key, zy_...; not needed on loopback while there is none")


def service_of(request: Request) -> Service:
    """The running service."""
    return request.app.state.service


async def _service(request: Request) -> Service:
    return service_of(request)  # in a coroutine: a function would be called on another thread


def deadline_of(request: Request, budget_ms: float) -> float:
    """When the answer must be there, of time.monotonic(): what the caller said, else `budget_ms` after the request
    came."""
    stated = request.state.stated_budget_ms
    return request.state.started + (budget_ms if stated is None else stated) / 1000


def requires(scope: Scope) -> Callable[..., Awaitable[None]]:
    """A dependency that lets only callers with the scope through, and not too many of their requests."""

    async def check(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> None:
        service = service_of(request)
        token = credentials.credentials if credentials else None
        key_id = await service.access.check(token, scope)
        service.rate_limit.take(key_id or (request.client.host if request.client else ""))

    return check


def permitted(scope: Scope) -> list[Any]:
    """`dependencies` of a route."""
    return [Depends(requires(scope))]


ServiceOf = Annotated[Service, Depends(_service)]
UserId = Annotated[Id, Path(description="of the person, as the application names them")]
ItemId = Annotated[Id, Path(description="of the item, as the catalogue names it")]
COMMON_ERRORS = (400, 401, 403, 408, 413, 422, 429, 503)
