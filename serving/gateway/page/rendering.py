"""Templates of the page."""

from __future__ import annotations

from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

REASONS = {
    "ranked": "ranked for you",
    "similar": "near what you took",
    "new_person": "popular lately",
    "diverse": "for variety",
    "explored": "something else for once",
    "": "popular",
}
CAUSES = {
    "last_list": "the model is away; this is your last list",
    "popular": "the model is away; this is what is popular",
    "latest": "the model is away; this is what is new",
    "model": "what you did is out of reach for a moment",
}

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("serving.gateway.page"), autoescape=True, undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
_templates.filters["path"] = lambda text: quote(str(text), safe="")
_templates.globals |= {
    "reason_of": lambda name: REASONS.get(name, name),
    "cause_of": lambda name: CAUSES.get(name, name),
}


def render(request: Request, name: str, **values: Any) -> HTMLResponse:
    """One template as an answer that no cache keeps."""
    text = _templates.get_template(name).render(request=request, **values)
    return HTMLResponse(text, headers={"Cache-Control": "no-store"})


def static_folder() -> str:
    """The folder of scripts and styles."""
    return str(resources.files("serving.gateway.page") / "static")
