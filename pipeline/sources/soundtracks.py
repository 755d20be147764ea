"""Music of free games, out of Debian's packages, as a catalogue of real tracks with labels beside it.

What the catalogue says of a track is its title and its length; game, soundtrack and composer are in `labels.csv`, which
no model reads: they tell whether what is alike by sound belongs together.
"""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import soundfile
from tqdm import tqdm

from components.media.containers import open_media
from components.media.errors import MediaError
from pipeline.sources import debian
from pipeline.sources.debian import is_copyright, licences, members
from pipeline.sources.folder import write_csv, write_once
from pipeline.sources.summary import Summary

VERSION = 1
SHORTEST_S = 20.0  # shorter pieces are jingles
NOBODY = ("unknown", "<unknown>", "unknown artist", "various", "various artists")  # what tags say of no composer
CATALOGUE = ("item_id", "title", "domain", "media_uri", "duration_s")
LABELS = ("item_id", "game", "soundtrack", "composer", "package", "path")


class Soundtrack(NamedTuple):
    """A folder of a package that holds the music of one game, or of one part of it."""

    package: str
    game: str
    pattern: str  # of the files' paths; a star matches slashes too
    part: str = ""  # of the game, where the package has several soundtracks

    @property
    def name(self) -> str:
        """Names the soundtrack among all."""
        return f"{self.game}: {self.part}" if self.part else self.game


_WARZONE = ("warzone2100-music", "Warzone 2100")
_SUPERTUX = ("supertux-data", "SuperTux")
SOUNDTRACKS = (
    Soundtrack("wesnoth-1.16-music", "Battle for Wesnoth", "*/core/music/*.ogg"),
    *(Soundtrack(*_WARZONE, f"*/albums/{part}_soundtrack/*.opus", part) for part in ("aftermath", "legacy")),
    Soundtrack("hyperrogue-music", "HyperRogue", "*/music/*.ogg"),
    Soundtrack("singularity-music", "Endgame: Singularity", "*/music/*.ogg"),
    Soundtrack("drascula-music", "Drascula", "*/audio/*.ogg"),
    Soundtrack("planetblupi-music-ogg", "Planet Blupi", "*/music/*.ogg"),
    Soundtrack("asc-music", "Advanced Strategic Command", "*/music/*.mp3"),
    Soundtrack("supertuxkart-data", "SuperTuxKart", "*/data/music/*.ogg"),
    Soundtrack("0ad-data", "0 A.D.", "*/public.zip/audio/music/*.ogg"),
    Soundtrack("naev-data", "Naev", "*/snd/music/*.ogg"),
    Soundtrack("berusky2-data", "Berusky 2", "*/music/*.ogg"),
    Soundtrack("colobot-common-sounds", "Colobot", "*/music/*.ogg"),
    Soundtrack("amoebax-data", "Amoebax", "*/music/*.ogg"),
    Soundtrack("btanks-data", "Battle Tanks", "*/tunes/*.ogg"),
    Soundtrack("extremetuxracer-data", "Extreme Tux Racer", "*/music/*.ogg"),
    Soundtrack("fillets-ng-data", "Fish Fillets", "*/music/*.ogg"),
    Soundtrack("flare-game", "Flare", "*/music/*.ogg"),
    Soundtrack("glob2-data", "Globulation 2", "*/zik/*.ogg"),
    Soundtrack("hedgewars-data", "Hedgewars", "*/Music/*.ogg"),
    Soundtrack("lordsawar-data", "LordsAWar", "*/music/*.ogg"),
    Soundtrack("lugaru-data", "Lugaru", "*/Sounds/music*.ogg"),
    Soundtrack("marsshooter-data", "M.A.R.S.", "*/audio/music/*.ogg"),
    Soundtrack("nexuiz-music", "Nexuiz", "*/music.pk3/*.ogg"),
    Soundtrack("ufoai-music", "UFO: Alien Invasion", "*/0music.pk3/*.ogg"),
    Soundtrack("pushover-data", "Pushover", "*/themes/*.ogg"),
    Soundtrack("starfighter-data", "Starfighter", "*/music/*.ogg"),
    *(Soundtrack(*_SUPERTUX, f"*/music/{part}/*.ogg", part) for part in ("antarctic", "forest", "misc", "retro")),
    Soundtrack("unknown-horizons", "Unknown Horizons", "*/audio/music/*.ogg"),
    Soundtrack("warmux-data", "WarMUX", "*/music/*.ogg"),
    Soundtrack("widelands-data", "Widelands", "*/music/*.ogg"),
    Soundtrack("xmoto-data", "X-Moto", "*/Musics/*.ogg"),
    Soundtrack("zaz-data", "Zaz", "*/zaz/*.ogg"),
    Soundtrack("a7xpg-data", "A7Xpg", "*/sounds/*.ogg"),
    Soundtrack("gunroar-data", "Gunroar", "*/musics/*.ogg"),
    Soundtrack("mu-cade-data", "Mu-cade", "*/musics/*.ogg"),
    Soundtrack("noiz2sa-data", "Noiz2sa", "*/sounds/*.ogg"),
    Soundtrack("parsec47-data", "PARSEC47", "*/sounds/*.ogg"),
    Soundtrack("rrootage-data", "rRootage", "*/sounds/*.ogg"),
    Soundtrack("titanion-data", "Titanion", "*/musics/*.ogg"),
    Soundtrack("torus-trooper-data", "Torus Trooper", "*/musics/*.ogg"),
    Soundtrack("tumiki-fighters-data", "Tumiki Fighters", "*/sounds/*.ogg"),
)
PACKAGES = tuple(dict.fromkeys(soundtrack.package for soundtrack in SOUNDTRACKS))
WHAT_TO_GET = debian.what_to_get(PACKAGES)


class Track(NamedTuple):
    """One piece of music that was taken out of a package."""

    item_id: str
    file_name: str
    soundtrack: Soundtrack
    path: str  # in the package
    title: str
    composer: str
    duration_s: float


def fetch(folder: Path) -> Path:
    """`debian.fetch` of the packages that hold music."""
    return debian.fetch(PACKAGES, folder)


def write_soundtracks(out_dir: Path, source: Path) -> Summary:
    """Write `catalogue.csv`, `media/`, `labels.csv`, `licences.csv` and the packages' copyright files.

    source: folder with packages as files `<name>_<version>_<architecture>.deb`; those that are not there are left out.
    Raises SourceError where there is none, or one is damaged.
    """
    debs = debian.fetched(PACKAGES, source, "music")
    identity = {"source": "soundtracks", "version": VERSION, "packages": sorted(deb.name for deb in debs.values())}

    def make(folder: Path) -> Summary:
        for name in ("media", "copyright"):
            (folder / name).mkdir()
        tracks: list[Track] = []
        stated = []
        for package, deb in (bar := tqdm(debs.items(), desc="unpacking", unit="package", disable=None)):
            bar.set_postfix_str(package)
            found, copyright_text = _take(package, deb, folder)
            tracks += found
            stated.append((package, debian.version(deb), len(found), "|".join(licences(copyright_text))))
        write_csv(folder / "licences.csv", ("package", "version", "tracks", "licences"), stated)
        write_csv(folder / "labels.csv", LABELS, (_labels(track) for track in tracks))
        rows = ((t.item_id, t.title, "music", f"media/{t.file_name}", f"{t.duration_s:.2f}") for t in tracks)
        return Summary(write_csv(folder / "catalogue.csv", CATALOGUE, rows), 0, 0, media_files=len(tracks))

    return write_once(out_dir, identity, make)


def _take(package: str, deb: Path, folder: Path) -> tuple[list[Track], str]:
    """Copies a package's tracks and its copyright file into the folder; gives the tracks and that file's text."""
    tracks: list[Track] = []
    copyright_text = ""
    soundtracks = [soundtrack for soundtrack in SOUNDTRACKS if soundtrack.package == package]
    for path, file in members(deb):
        if is_copyright(path):
            copyright_text = file.read().decode("utf-8", errors="replace")
            (folder / "copyright" / f"{package}.txt").write_text(copyright_text, encoding="utf-8")
        for soundtrack in soundtracks:
            if fnmatch.fnmatchcase(path, soundtrack.pattern):
                item_id = hashlib.blake2b(f"{package}/{path}".encode(), digest_size=6).hexdigest()
                place = folder / "media" / f"{item_id}{PurePosixPath(path).suffix.lower()}"
                with place.open("wb") as copy:
                    shutil.copyfileobj(file, copy, 1 << 20)
                tracks += _long_enough(Track(item_id, place.name, soundtrack, path, "", "", 0.0), place)
    return tracks, copyright_text


def _long_enough(track: Track, place: Path) -> Iterator[Track]:
    """The track with what its file says of it; a jingle or no sound is removed."""
    duration_s, tags = _read_tags(place)
    if duration_s < SHORTEST_S:
        place.unlink()
        return
    title = tags.get("title") or PurePosixPath(track.path).stem.replace("_", " ").replace("-", " ")
    composer = _plain(tags.get("composer") or tags.get("artist") or "")
    composer = "" if composer.lower() in NOBODY else composer
    yield track._replace(title=title, composer=composer, duration_s=duration_s)


def _read_tags(place: Path) -> tuple[float, dict[str, str]]:
    """Length in seconds and tags by lower-case name; 0 s where neither FFmpeg nor libsndfile opens the file."""
    try:
        with open_media(str(place)) as media:
            streams = [stream for stream in media.container.streams if stream.type == "audio"]
            tags = [media.container.metadata, *(stream.metadata for stream in streams)]
            known = {name.lower(): value.strip() for part in tags for name, value in part.items()}
            return (media.container.duration or 0) / 1e6, known
    except MediaError:
        pass  # what FFmpeg refuses may still be played by libsndfile
    try:
        with soundfile.SoundFile(place) as sound:
            known = {name.lower(): value.strip() for name, value in sound.copy_metadata().items()}
            return sound.frames / sound.samplerate, known
    except soundfile.SoundFileError:
        return 0.0, {}


def _plain(name: str) -> str:
    """A name in one spelling: Unicode's composed form, single spaces."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _labels(track: Track) -> Sequence[str]:
    soundtrack = track.soundtrack
    return track.item_id, soundtrack.game, soundtrack.name, track.composer, soundtrack.package, track.path
