"""The gateway as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from serving.gateway import problems
from serving.gateway.middleware import Frame
from serving.gateway.page import dashboard, listen
from serving.gateway.page.rendering import static_folder
from serving.gateway.routes import events, experiments, health, items, lists, media, users
from serving.gateway.service import Service
from serving.gateway.stores.base import StoreUnavailable

API_VERSION = "1.0"
ABOUT = "Recommendations of audio and video. What people do counts in their next list."


def create_app(service: Service) -> FastAPI:
    """The application over a service; it starts and stops with the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="zhiyin", version=API_VERSION, description=ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = service
    app.state.trend = dashboard.Trend()
    for part in (lists, events, items, users, media, experiments, health, listen, dashboard):
        app.include_router(part.router)
    app.mount("/page/static", StaticFiles(directory=static_folder()))
    app.add_exception_handler(HTTPException, problems.on_problem)
    app.add_exception_handler(RequestValidationError, problems.on_invalid)
    app.add_exception_handler(StoreUnavailable, problems.on_store_away)
    app.add_exception_handler(Exception, problems.on_failure)
    config = service.settings.gateway
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID", "X-Budget-Ms"],
        )
    app.add_middleware(
        Frame,
        metrics=service.metrics,
        tracing=service.tracing,
        hosts=service.hosts,
        is_full=lambda: service.answers.admission.is_full,
    )
    _declare_problems(app)
    return app


def _declare_problems(app: FastAPI) -> None:
    """Put the schema of problem documents, and of one event of a batch, into the OpenAPI document."""
    from serving.gateway.schemas import EventIn

    generate = app.openapi

    def openapi() -> dict:
        schema = generate()
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in (problems.ProblemDocument, EventIn):
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(described.pop("$defs", {}))
            schemas[model.__name__] = described
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
