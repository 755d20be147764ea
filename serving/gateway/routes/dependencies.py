"""What routes take from a request: the service, the caller's permission, the budget."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPBearer

from serving.gateway.api_keys import Scope
from serving.gateway.schemas import Id
from serving.gateway.service import Service


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


class Permission(HTTPBearer):
    """A dependency that lets only callers with a scope through, and not too many of their requests."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(
            scheme_name=HTTPBearer.__name__,
            description="an API key, zy_...; not needed on loopback while there is none",
            auto_error=False,
        )
        self._scope = scope

    async def __call__(self, request: Request) -> None:  # type: ignore[override]  # nothing is done with what it gives
        credentials, service = await super().__call__(request), service_of(request)
        key_id = await service.access.check(credentials.credentials if credentials else None, self._scope)
        service.rate_limit.take(key_id or (request.client.host if request.client else ""))


def permitted(scope: Scope) -> list[Any]:
    """`dependencies` of a route."""
    return [Security(Permission(scope))]


ServiceOf = Annotated[Service, Depends(_service)]
UserId = Annotated[Id, Path(description="of the person, as the application names them")]
ItemId = Annotated[Id, Path(description="of the item, as the catalogue names it")]
COMMON_ERRORS = (400, 401, 403, 408, 413, 422, 429, 503)
