"""Whether the gateway lives, whether it answers well, and its metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response

from serving.gateway.problems import responses
from serving.gateway.routes.dependencies import ServiceOf
from serving.gateway.schemas import Health

router = APIRouter(tags=["health"], responses=responses(403))


@router.get("/health/live", operation_id="live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/health/ready", operation_id="ready", responses={503: {"model": Health}})
async def ready(service: ServiceOf, response: Response) -> Health:
    """200 while something can be answered: with a part away the service is degraded, with both away it is not ready."""
    store, version = await service.health()
    if not store and version is None:
        response.status_code = 503
    is_whole = store and version is not None
    return Health(
        status="ok" if is_whole else "degraded", store=store, model=version is not None, model_version=version
    )


@router.get("/metrics", operation_id="metrics", response_class=Response)
async def metrics(service: ServiceOf) -> Response:
    """Prometheus' text format."""
    return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
