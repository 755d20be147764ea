"""The items' own files."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from components.media.addresses import is_address
from components.media.errors import MediaError
from serving.gateway.problems import not_found, responses
from serving.gateway.routes.dependencies import COMMON_ERRORS, ItemId, ServiceOf, permitted

router = APIRouter(prefix="/v1", tags=["media"], responses=responses(*COMMON_ERRORS))
_TYPES = {
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
}  # whatever else lies below media_root is never run by a browser


@router.get(
    "/media/{item_id}",
    dependencies=permitted("read"),
    response_class=FileResponse,
    responses={**responses(404, 416), 200: {"content": {"application/octet-stream": {}}}, 206: {"description": "Part"}},
    operation_id="media",
)
async def media(item_id: ItemId, service: ServiceOf) -> FileResponse:
    """The item's own file, whole or by ranges."""
    item = service.catalog.get(item_id)
    uri = item.fields.get("media_uri") if item is not None and not item.is_withdrawn else None
    if not uri:
        raise not_found("medium of this item")
    try:
        path = Path(await asyncio.to_thread(service.settings.media.place, uri))
    except MediaError as error:
        raise not_found("medium of this item") from error
    if is_address(str(path)) or not await asyncio.to_thread(path.is_file):
        raise not_found("medium of this item")
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})
