"""Pseudonyms of people, and the tombstones of those who were forgotten."""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path

from serving.gateway.config import PrivacyConfig
from serving.gateway.stores.base import Store

MIN_KEY_BYTES = 32
PSEUDONYM_PREFIX = "p_"
_NOBODY = "\0"  # no id holds a control character
_TOMBSTONE_KEY = "tombstone_key"  # in the store's settings


class Pseudonyms:
    """Maps ids of people as applications say them to the ids under which everything is kept.

    An id is HMAC-SHA256 under the operator's key; after a rotation, HMAC under the new key of what it was before, since
    the original is known to nobody: the key file holds all keys, the oldest first, and whoever lacks one of them finds
    nobody.
    """

    def __init__(self, keys: Sequence[bytes] = (), is_kept: bool = False) -> None:
        """keys: none keeps ids as they are. is_kept: ids are given as they were kept under keys before these.

        Raises ValueError for a key that is too short.
        """
        for key in keys:
            if len(key) < MIN_KEY_BYTES:
                raise ValueError(f"a key of the pseudonyms has {len(key)} bytes, expected at least {MIN_KEY_BYTES}")
        self._keys = tuple(keys)
        self._first_kept = 0 if is_kept else 1

    def __call__(self, user_id: str) -> str:
        """The id under which a person is kept; the empty id is nobody's and stays."""
        return functools.reduce(pseudonym, self._keys, user_id) if user_id else user_id

    def former(self, user_id: str) -> list[str]:
        """The ids under which a person was kept before each rotation, the oldest first."""
        return [
            functools.reduce(pseudonym, self._keys[:count], user_id)
            for count in range(self._first_kept, len(self._keys))
        ]

    @property
    def fingerprint(self) -> str:
        """Says under which keys ids are kept, without the keys; empty where there are none."""
        return functools.reduce(pseudonym, self._keys, _NOBODY) if self._keys else ""

    def after(self, fingerprint: str) -> Pseudonyms | None:
        """For ids that are already kept under the first of these keys: what the others make of them.

        fingerprint: of the keys under which they are kept. None where those are not the first of these.
        """
        for count in range(len(self._keys) + 1):
            if Pseudonyms(self._keys[:count]).fingerprint == fingerprint:
                return Pseudonyms(self._keys[count:], is_kept=count > 0)
        return None

    def later(self, kept_as: str) -> set[str]:
        """The ids under which somebody may be kept who was kept under an id before any of the rotations."""
        places = range(len(self._keys) + 1)
        chains = {self._keys[first:last] for first in places for last in places if first <= last}
        return {functools.reduce(pseudonym, chain, kept_as) for chain in chains}


def pseudonym(user_id: str, key: bytes) -> str:
    """HMAC-SHA256 of an id, hexadecimal."""
    return PSEUDONYM_PREFIX + hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()


def load_keys(config: PrivacyConfig) -> list[bytes]:
    """The operator's keys, a hexadecimal one a line; none where pseudonyms are not configured.

    Raises ValueError where the file cannot be read or holds no key, and while people are kept under two keys.
    """
    if not config.pseudonyms:
        return []
    file = Path(config.key_file)
    if rotating(file).exists():
        raise ValueError(
            f"privacy.key_file: a rotation of {config.key_file!r} was begun and has not ended, and finds only some "
            "people until it has: call ./zhiyin keys rotate-pseudonyms again"
        )
    return read_keys(file)


def read_keys(file: Path) -> list[bytes]:
    """The keys in a file, the oldest first. Raises ValueError where it cannot be read or holds none."""
    try:
        keys = [bytes.fromhex(line) for line in file.read_text(encoding="ascii").split()]
    except OSError as error:
        raise ValueError(f"privacy.key_file: cannot read {str(file)!r}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"privacy.key_file: {str(file)!r} must hold hexadecimal keys, one a line") from error
    if not keys:
        raise ValueError(f"privacy.key_file: {str(file)!r} holds no key")
    return keys


def rotating(file: Path) -> Path:
    """Where the new key of a key file lies until everybody is kept under it."""
    return file.with_name(f"{file.name}.rotating")


class Tombstones:
    """Marks of forgotten people that do not say who they were: HMAC-SHA256 under a key of their own."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, user_id: str) -> str:
        """The mark of a (kept) id."""
        return hmac.new(self._key, user_id.encode(), hashlib.sha256).hexdigest()


async def tombstones_of(store: Store) -> Tombstones:
    """The store's tombstones, under a random key that the store keeps."""
    return Tombstones(bytes.fromhex(await store.set_meta_once(_TOMBSTONE_KEY, secrets.token_hex(MIN_KEY_BYTES))))


def marks_of(tombstones: Tombstones, pseudonyms: Pseudonyms, user_id: str) -> tuple[str, ...]:
    """The tombstones of which any tells that a person is forgotten; nobody's where the id is empty.

    A rotation gives everybody who is kept a new pseudonym, but knows nobody who was forgotten before it: so those of
    the former pseudonyms count too.
    user_id: as the pseudonyms take it.
    """
    kept_as = (*pseudonyms.former(user_id), pseudonyms(user_id)) if user_id else ()
    return tuple(tombstones(one) for one in kept_as)
