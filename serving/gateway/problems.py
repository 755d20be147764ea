"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
OVERLOADED = "too many requests at once; try again later"
MAX_ERRORS = 20  # faults of one body that are listed


class FieldError(BaseModel):
    """One fault and where it is."""

    field: str = Field(description="dotted path into the request, such as body.events.3.item_id")
    reason: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str = Field(description="names the kind of problem")
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldError] = []


class Problem(HTTPException):
    """A request that ends with a problem document."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """kind: the last part of `type`. retry_after_s: sent as Retry-After."""
        retry = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        super().__init__(status, detail, {**retry, **(headers or {})})
        self.kind, self.errors = kind, errors


def unavailable(kind: str, detail: str, retry_after_s: int = 1) -> Problem:
    """503 with Retry-After."""
    return Problem(503, kind, detail, retry_after_s=retry_after_s)


def invalid(field: str, reason: str) -> Problem:
    """422 for one field."""
    return Problem(422, "invalid-request", f"{field}: {reason}", (FieldError(field=field, reason=reason),))


def not_found(what: str) -> Problem:
    """404."""
    return Problem(404, "not-found", f"there is no {what}")


def document(
    request_id: str, status: int, kind: str, detail: str, errors: tuple[FieldError, ...] = ()
) -> dict[str, Any]:
    """The body of a problem document."""
    return ProblemDocument(
        type=f"urn:zhiyin:problem:{kind}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=request_id,
        errors=list(errors),
    ).model_dump()


async def on_problem(request: Request, error: Exception) -> JSONResponse:
    """Problems of ours, and what the framework raises (no such path, no such method, a body that is not JSON)."""
    assert isinstance(error, HTTPException)
    kind = error.kind if isinstance(error, Problem) else HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    errors = error.errors if isinstance(error, Problem) else ()
    return _response(request, error.status_code, kind, str(error.detail), errors, error.headers)


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """A request that does not fit its schema: 422 with the fields."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[:MAX_ERRORS]
    errors = tuple(FieldError(field=".".join(map(str, one["loc"])), reason=one["msg"]) for one in found)
    detail = f"{errors[0].field}: {errors[0].reason}" if errors else "the request does not fit its schema"
    return _response(request, 422, "invalid-request", detail, errors)


async def on_store_away(request: Request, error: Exception) -> JSONResponse:
    """A read of the store that no route has caught: 503."""
    del error
    return await on_problem(request, unavailable("store-unavailable", "the store cannot be read now"))


async def on_failure(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours. What it was stands in the log, not in the answer."""
    del error
    return _response(request, 500, "internal", "the service failed; the log has the request id")


def _response(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    errors: tuple[FieldError, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    request_id = getattr(request.state, "request_id", "")
    body = document(request_id, status, kind, _printable(detail), errors)
    return JSONResponse(body, status, dict(headers or {}), MEDIA_TYPE)


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may end with these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
