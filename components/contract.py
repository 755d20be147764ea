"""The data contract: the tables' columns and every item feature, with name, dtype, shape and unit.

Standard library only.

Dimensions: T text tokens, G tags, S audio segments, F mel frames a segment, M mel bins, K key frames, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.config import DataConfig

Kind = Literal["id", "text", "uri", "list", "number", "category", "time", "embedding"]
DType = Literal["string", "int64", "float32", "uint8"]


@dataclass(frozen=True)
class Column:
    """One column of an input table."""

    name: str
    kind: Kind
    required: bool = False
    about: str = ""
    dim: int = 0  # embeddings only
    above_zero: bool = False  # numbers only: 0 or less says nothing


CATALOGUE = (
    Column("item_id", "id", True, "names the item everywhere; a string, also where it looks like a number"),
    Column("title", "text", False, "shown to people; part of the text modality"),
    Column("description", "text", False, "part of the text modality"),
    Column("tags", "list", False, "genres, tags, keywords"),
    Column("domain", "category", False, "music, video, film, game, course, ..."),
    Column("creator", "category", False, "artist, channel, studio, teacher"),
    Column("media_uri", "uri", False, "audio or video file, absolute or relative to media_root"),
    Column("published_at", "time", False, "when the item appeared"),
    Column("duration_s", "number", False, "length in seconds as stated; a hint, not a fact", above_zero=True),
)
EVENTS = (
    Column("user_id", "id", True, "who"),
    Column("item_id", "id", True, "what"),
    Column("timestamp", "time", False, "when; without it a user's events are a set, not a sequence"),
    Column("event", "category", False, "play, complete, like, skip, rating, ...; absent means play"),
    Column("value", "number", False, "the rating, or another strength"),
    Column("split", "category", False, "train, valid or eval, test: kept as given"),
)
USERS = (Column("user_id", "id", True, "who"),)


def catalogue_columns(data: DataConfig) -> tuple[Column, ...]:
    """The catalogue's columns, declared ones included."""
    return (
        CATALOGUE
        + tuple(Column(name, "number", about="declared") for name in data.numeric)
        + tuple(Column(name, "category", about="declared") for name in data.categorical)
        + tuple(
            Column(f"embedding:{name}", "embedding", about="declared", dim=dim) for name, dim in data.embeddings.items()
        )
    )


def user_columns(data: DataConfig) -> tuple[Column, ...]:
    """The users table's columns, declared ones included."""
    return (
        USERS
        + tuple(Column(name, "number", about="declared") for name in data.user_numeric)
        + tuple(Column(name, "category", about="declared") for name in data.user_categorical)
    )


@dataclass(frozen=True)
class Feature:
    """One feature of an item, as the trainer and the served model see it (after Transform)."""

    name: str
    dtype: DType  # uint8 features travel as raw bytes, one string an item, row-major
    shape: tuple[int, ...]
    unit: str
    vocabulary: str = ""  # name of the vocabulary behind an id feature; 0 = absent, 1 = unknown, 2 + rank = known


TEXT_TOKENS = 48  # words of title and description, in that order
TAG_SLOTS = 64

AUDIO_SEGMENTS = 3  # spread evenly over the track
AUDIO_FRAMES = 300  # a segment: 3 s at 10 ms a frame
AUDIO_MELS = 64
LOG_MEL_FLOOR = -9.0  # natural log; uint8 0 means this or less, 255 means LOG_MEL_CEILING or more, linear between
LOG_MEL_CEILING = 6.0

VIDEO_KEY_FRAMES = 4
VIDEO_HEIGHT = VIDEO_WIDTH = 48  # pixels, aspect ratio kept by centre crop

LOG_MEL_BYTES = AUDIO_SEGMENTS * AUDIO_FRAMES * AUDIO_MELS
FRAME_BYTES = VIDEO_KEY_FRAMES * VIDEO_HEIGHT * VIDEO_WIDTH * 3
assert LOG_MEL_BYTES + FRAME_BYTES <= 100_000, "an item's stored media features stay under 100 KB"

BOTH, CONTENT, BEHAVIOUR = "both", "content", "behaviour"  # what a list of similar items is ordered by
VIEWS = (CONTENT, BEHAVIOUR)  # what an item is by one of them alone: a unit vector, 0 where it has none

AUDIO_FEATURES = (
    Feature(
        "audio_log_mel",
        "uint8",
        (AUDIO_SEGMENTS, AUDIO_FRAMES, AUDIO_MELS),
        "natural log, scaled by LOG_MEL_FLOOR..CEILING",
    ),
    Feature("audio_num_frames", "int64", (AUDIO_SEGMENTS,), "valid frames of each segment; the rest is padding"),
)
VIDEO_FEATURES = (
    Feature(
        "video_frames", "uint8", (VIDEO_KEY_FRAMES, VIDEO_HEIGHT, VIDEO_WIDTH, 3), "RGB 0..255, display orientation"
    ),
    Feature("video_times_s", "float32", (VIDEO_KEY_FRAMES,), "presentation time, seconds from the start"),
    Feature("video_num_frames", "int64", (), "valid key frames; the rest is padding"),
)


def item_features(data: DataConfig) -> tuple[Feature, ...]:
    """Every feature of a transformed item; where `has_<modality>` is 0, the features of that modality are padding."""
    num_numeric = 1 + len(data.numeric)
    return (
        Feature("item_id", "string", (), "UTF-8"),
        Feature("text_tokens", "int64", (TEXT_TOKENS,), "word ids", "words"),
        Feature("has_text", "int64", (), "0 or 1"),
        Feature("tag_ids", "int64", (TAG_SLOTS,), "tag ids", "tags"),
        Feature("has_tags", "int64", (), "0 or 1"),
        Feature("domain_id", "int64", (), "domain id", "domain"),
        Feature("creator_id", "int64", (), "creator id", "creator"),
        *(Feature(f"{name}_id", "int64", (), f"{name} id", name) for name in data.categorical),
        Feature(
            "numeric",
            "float32",
            (num_numeric,),
            "z-scores: log1p(duration_s), then the declared columns; 0 where absent",
        ),
        Feature("numeric_present", "float32", (num_numeric,), "0 or 1"),
        *AUDIO_FEATURES,
        Feature("has_audio", "int64", (), "0 or 1"),
        *VIDEO_FEATURES,
        Feature("has_video", "int64", (), "0 or 1"),
        *(
            feature
            for name, dim in data.embeddings.items()
            for feature in (
                Feature(f"embedding_{name}", "float32", (dim,), "as given"),
                Feature(f"has_embedding_{name}", "int64", (), "0 or 1"),
            )
        ),
        *(
            feature
            for name, length in data.pieces.items()
            for feature in (
                Feature(f"pieces_{name}", "int64", (length,), "ids of the encoder's own vocabulary, -1 where padded"),
                Feature(f"has_pieces_{name}", "int64", (), "0 or 1"),
            )
        ),
    )


def modalities(data: DataConfig) -> tuple[str, ...]:
    """The content modalities of an item, in the order in which fusion sees them."""
    given = (*(f"embedding_{name}" for name in data.embeddings), *(f"pieces_{name}" for name in data.pieces))
    return ("text", "tags", "audio", "video", *given)
