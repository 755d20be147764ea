"""What a source of data gives back, and how it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from components.settings import SettingsError


class SourceError(SettingsError):
    """A source that cannot be used: what, what was got, what was expected, what to do."""


@dataclass(frozen=True)
class Summary:
    """What was written."""

    items: int
    users: int
    events: int
    media_files: int = 0
    fresh: bool = True  # False: the same data was already there and was left as it is

    def __str__(self) -> str:
        media = f", {self.media_files:,} media files" if self.media_files else ""
        already = "" if self.fresh else " (already there)"
        return f"{self.items:,} items, {self.users:,} people, {self.events:,} events{media}{already}"
