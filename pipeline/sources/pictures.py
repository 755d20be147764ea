"""Pictures out of Debian's packages, as a catalogue of real ones with labels beside it.

What the catalogue says of a picture is the name of its file; what it shows (its theme), or the game, people or place
that it was made for (its set), is in `labels.csv`, which no model reads: they tell whether what looks alike belongs
together. A theme may come from several packages, photographs and drawings among them.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from components.media.containers import open_media
from components.media.errors import MediaError
from pipeline.sources import debian
from pipeline.sources.debian import is_copyright, licences, members
from pipeline.sources.folder import write_csv, write_once
from pipeline.sources.summary import Summary

VERSION = 1
SMALLEST = 64  # pixels of the shorter side; smaller pictures are icons
MOST = 30  # of a label: those whose ids come first
VARIANTS = ("*_mirror.*", "*_flip.*", "*_normal*", "*_nm.*", "*_spec*", "*_gloss*")  # of a picture that is there too
CATALOGUE = ("item_id", "title", "domain", "media_uri")
LABELS = ("item_id", "theme", "set", "package", "path")


class Collection(NamedTuple):
    """Pictures of a package that are of one theme, or of one set."""

    package: str
    pattern: str  # of the files' paths; a star matches slashes too; of several, the first one takes a file
    theme: str = ""
    set: str = ""


_STAMPS, _CLIPS, _SCRATCH = "tuxpaint-stamps-default", "openclipart-png", "scratch"
_THEMES = {
    "bears": [(_STAMPS, "mammals/bears"), (_CLIPS, "mammals/bears")],
    "cats": [(_STAMPS, "mammals/cats"), (_CLIPS, "mammals/*cats")],
    "cattle": [(_STAMPS, "mammals/bovines")],
    "dogs": [(_STAMPS, "mammals/dogs"), (_CLIPS, "mammals/dogs")],
    "horses": [(_STAMPS, "mammals/equines"), (_CLIPS, "mammals/horses")],
    "rodents": [(_STAMPS, "mammals/rodents")],
    "birds": [(_STAMPS, "animals/birds"), (_CLIPS, "animals/birds")],
    "dinosaurs": [(_CLIPS, "animals/dinosaurs"), (_STAMPS, "animals/dinosaur")],
    "fish": [(_STAMPS, "animals/fish"), (_CLIPS, "animals/fish")],
    "insects": [(_STAMPS, "animals/insects"), (_CLIPS, "animals/bugs")],
    "hats": [(_STAMPS, "clothes/hats"), (_CLIPS, "clothing/hats")],
    "clothes": [(_STAMPS, "stamps/clothes"), (_CLIPS, "people/clothing")],
    "fruit": [(_STAMPS, "food/fruit"), (_CLIPS, "food/fruit")],
    "vegetables": [(_STAMPS, "food/vegetables"), (_CLIPS, "food/vegetables")],
    "beverages": [(_CLIPS, "food/beverages")],
    "bread": [(_CLIPS, "food/breads_and_carbs")],
    "desserts": [(_CLIPS, "food/desserts"), (_STAMPS, "food/dessert")],
    "meat and eggs": [(_CLIPS, "food/meats_and_eggs")],
    "flowers": [(_STAMPS, "plants/flowers"), (_CLIPS, "plants/flowers")],
    "trees": [(_STAMPS, "plants/trees"), (_CLIPS, "plants/trees")],
    "christmas": [(_STAMPS, "seasonal/christmas"), (_CLIPS, "holiday/christmas")],
    "easter": [(_STAMPS, "seasonal/easter")],
    "halloween": [(_STAMPS, "seasonal/halloween")],
    "houses": [(_STAMPS, "town/houses"), (_CLIPS, "buildings/homes")],
    "monuments": [(_STAMPS, "town/monuments")],
    "furniture": [(_CLIPS, "buildings/furniture")],
    "road signs": [(_STAMPS, "town/roadsigns"), (_CLIPS, "transportation/roadsigns")],
    "boats": [(_STAMPS, "vehicles/ship"), (_CLIPS, "transportation/boating")],
    "trains": [(_STAMPS, "vehicles/locomotive")],
    "cars": [(_STAMPS, "vehicles/auto"), (_CLIPS, "transportation/vehicles")],
    "coins": [(_STAMPS, "money/*coins")],
    "planets": [(_STAMPS, "space/planets"), (_CLIPS, "astronomy")],
    "chess": [(_STAMPS, "symbols/chess"), (_CLIPS, "games/chess")],
    "playing cards": [(_CLIPS, "games/cards")],
    "music": [(_STAMPS, "hobbies/music"), (_CLIPS, "recreation/music")],
    "sports": [(_STAMPS, "stamps/sports"), (_CLIPS, "recreation/sports")],
    "toys": [(_CLIPS, "recreation/toys")],
    "weapons": [(_CLIPS, "tools/weapons")],
    "tools": [(_STAMPS, "household/tools"), (_CLIPS, "png/tools")],
    "computers": [(_CLIPS, "computer/hardware")],
    "books": [(_CLIPS, "education/books")],
    "clocks": [(_CLIPS, "signs_and_symbols/clocks")],
    "flags": [(_CLIPS, "flags/africa"), (_CLIPS, "flags/asia"), (_CLIPS, "flags/europe")],
    "weather": [(_CLIPS, "signs_and_symbols/weather")],
    "hand signs": [(_STAMPS, "alphabets/asl")],
    "indoors": [(_SCRATCH, "Backgrounds/Indoors")],
    "nature": [(_SCRATCH, "Backgrounds/Nature"), ("mate-backgrounds", "mate/nature")],
    "streets": [(_SCRATCH, "Backgrounds/Outdoors")],
}
_OPENARENA = [
    *("acc_dm3", "acc_dm5", "base_floor", "base_light", "base_trim", "base_wall", "base_wall2", "clown", "cosmo_green"),
    *("e7", "gothic_block", "gothic_cath", "gothic_floor", "gothic_light", "gothic_trim", "gothic_wall", "liquids"),
    *("mc-oa-dm04", "oquartz", "proto2", "pulchr_simple", "skies", "suction"),
]
_TRACKS = [
    *("ancient_colosseum_labyrinth", "black_forest", "fortmagma", "hacienda", "lighthouse", "mines", "minigolf"),
    *("overworld", "sandtrack", "snowmountain", "snowtuxpeak", "stk_enterprise", "tutorial", "volcano_island"),
    *("xr591", "zengarden"),
]
_PORTRAITS = (
    "drakes",
    "dwarves",
    "elves",
    "goblins",
    "humans",
    "merfolk",
    "monsters",
    "nagas",
    "orcs",
    "trolls",
    "undead",
)
_SPACE = (
    "icons/building",
    "icons/species",
    "icons/specials_huge",
    "icons/monsters",
    "hulls_design",
    "nebulae",
    "stars_sidepanel",
)
_WALLPAPERS = {
    "gnome-backgrounds": "*/backgrounds/gnome/*-l.webp",
    "lomiri-wallpapers-16.04": "*/backgrounds/*",
    "lxqt-themes": "*/lxqt/wallpapers/*",
    "plasma-workspace-wallpapers": "*/contents/images/[235]???x*",
    "ukui-wallpapers": "*/share/backgrounds/*",
}
COLLECTIONS = (
    *(
        Collection(package, f"*{folder}/*", theme=theme)
        for theme, places in _THEMES.items()
        for package, folder in places
    ),
    *(
        Collection("openarena-081-textures", f"*/textures/{name}/*.jpg", set=f"OpenArena: {name}")
        for name in _OPENARENA
    ),
    *(Collection("supertuxkart-data", f"*/tracks/{name}/*.jpg", set=f"SuperTuxKart: {name}") for name in _TRACKS),
    *(
        Collection("wesnoth-1.16-data", f"*/core/images/portraits/{name}/*", set=f"Battle for Wesnoth: {name}")
        for name in _PORTRAITS
    ),
    Collection("wesnoth-1.16-data", "*/core/images/story/*", set="Battle for Wesnoth: story"),
    *(Collection("freeorion-data", f"*/data/art/{name}/*", set=f"FreeOrion: {name}") for name in _SPACE),
    Collection("colobot-common-textures", "*/colobot/textures/objects/*", set="Colobot: objects"),
    Collection("mate-backgrounds", "*/mate/desktop/*", set="wallpapers: mate-backgrounds"),
    *(Collection(package, pattern, set=f"wallpapers: {package}") for package, pattern in _WALLPAPERS.items()),
)
ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp")
PACKAGES = tuple(dict.fromkeys(collection.package for collection in COLLECTIONS))
WHAT_TO_GET = debian.what_to_get(PACKAGES)


class Picture(NamedTuple):
    """One picture that was taken out of a package."""

    item_id: str  # of its bytes: equal files are one picture
    collection: Collection
    path: str  # in the package

    @property
    def file_name(self) -> str:
        """In `media/`."""
        return f"{self.item_id}{PurePosixPath(self.path).suffix.lower()}"


def fetch(folder: Path) -> Path:
    """`debian.fetch` of the packages that hold pictures."""
    return debian.fetch(PACKAGES, folder)


def write_pictures(out_dir: Path, source: Path) -> Summary:
    """Write `catalogue.csv`, `media/`, `labels.csv`, `licences.csv` and the packages' copyright files.

    source: folder with packages as files `<name>_<version>_<architecture>.deb`; those that are not there are left out.
    Raises SourceError where there is none, or one is damaged.
    """
    debs = debian.fetched(PACKAGES, source, "pictures")
    identity = {"source": "pictures", "version": VERSION, "packages": sorted(deb.name for deb in debs.values())}

    def make(folder: Path) -> Summary:
        for name in ("media", "copyright"):
            (folder / name).mkdir()
        found: dict[str, Picture] = {}
        stated = {}
        for package, deb in (bar := tqdm(debs.items(), desc="unpacking", unit="package", disable=None)):
            bar.set_postfix_str(package)
            copyright_text = ""
            for path, file in members(deb):
                if is_copyright(path):
                    copyright_text = file.read().decode("utf-8", errors="replace")
                elif (collection := _collection(package, path)) is not None:
                    content = file.read()
                    picture = Picture(hashlib.blake2b(content, digest_size=6).hexdigest(), collection, path)
                    if picture.item_id not in found and _is_large(content):
                        found[picture.item_id] = picture
                        (folder / "media" / picture.file_name).write_bytes(content)
            (folder / "copyright" / f"{package}.txt").write_text(copyright_text, encoding="utf-8")
            stated[package] = licences(copyright_text)
        pictures = list(_first_of_each_label(found.values(), folder / "media"))
        counts = Counter(picture.collection.package for picture in pictures)
        rows = ((name, debian.version(debs[name]), counts[name], "|".join(known)) for name, known in stated.items())
        write_csv(folder / "licences.csv", ("package", "version", "pictures", "licences"), rows)
        write_csv(folder / "labels.csv", LABELS, map(_labels, pictures))
        items = ((p.item_id, _title(p.path), "picture", f"media/{p.file_name}") for p in pictures)
        return Summary(write_csv(folder / "catalogue.csv", CATALOGUE, items), 0, 0, media_files=len(pictures))

    return write_once(out_dir, identity, make)


def _collection(package: str, path: str) -> Collection | None:
    """The collection that a file of a package belongs to."""
    is_variant = any(fnmatch.fnmatchcase(PurePosixPath(path).name, pattern) for pattern in VARIANTS)
    if is_variant or not path.lower().endswith(ENDINGS):
        return None
    places = (collection for collection in COLLECTIONS if collection.package == package)
    return next((collection for collection in places if fnmatch.fnmatchcase(path, collection.pattern)), None)


def _is_large(content: bytes) -> bool:
    """Whether a file is a picture of SMALLEST pixels a side or more."""
    try:
        with open_media(content) as media:
            stream = media.stream("video")
            return stream is not None and min(stream.width, stream.height) >= SMALLEST
    except MediaError:
        return False


def _first_of_each_label(pictures: Iterable[Picture], media: Path) -> Iterator[Picture]:
    """At most MOST pictures of each label, by their ids; the files of the others are removed."""
    taken: Counter[str] = Counter()
    for picture in sorted(pictures, key=lambda picture: picture.item_id):
        label = picture.collection.theme or picture.collection.set
        if taken[label] == MOST:
            (media / picture.file_name).unlink()
            continue
        taken[label] += 1
        yield picture


def _title(path: str) -> str:
    return PurePosixPath(path).stem.replace("_", " ").replace("-", " ")


def _labels(picture: Picture) -> tuple[str, ...]:
    collection = picture.collection
    return picture.item_id, collection.theme, collection.set, collection.package, picture.path
