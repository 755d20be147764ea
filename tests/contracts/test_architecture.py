"""The picture in docs/architecture.md is the one that the imports draw, and it has no circle."""

import re
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
ROOMS = ("components", "trainer", "serving", "pipeline", "benchmarks")


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*ROOMS, cache_dir=None)


def sub_room(module: str) -> str:
    """`room.folder` of a module in a folder of its room; the room itself of a module that stands beside the folders."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and (ROOT / parts[0] / parts[1]).is_dir() else parts[0]


def imported() -> set[tuple[str, str]]:
    """(importer, imported) of sub-rooms within one room; the modules beside the folders are the room's common
    ground."""
    edges = set()
    for module in graph().modules:
        for target in graph().find_modules_directly_imported_by(module):
            edge = sub_room(module), sub_room(target)
            if (
                edge[0] != edge[1]
                and edge[0].split(".")[0] == edge[1].split(".")[0]
                and all("." in end for end in edge)
            ):
                edges.add(edge)
    return {edge for edge in edges if not edge[0].startswith("benchmarks")}


def drawn() -> tuple[set[str], set[tuple[str, str]]]:
    """Boxes and arrows of the Mermaid picture; a box is written `room_folder[...]`."""
    picture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```mermaid")[1].split("```")[0]
    boxes = set(re.findall(r"^\s*((?:components|trainer|serving|pipeline)_\w+)\[", picture, re.MULTILINE))
    arrows = re.findall(r"^\s*(\w+) --> (\w+)\s*$", picture, re.MULTILINE)

    def name(box: str) -> str:
        return ".".join(box.split("_", 1))

    return {name(box) for box in boxes}, {(name(start), name(end)) for start, end in arrows}


def test_the_picture_has_a_box_for_every_sub_room() -> None:
    folders = {f"{room}.{folder.parent.name}" for room in ROOMS[:4] for folder in (ROOT / room).glob("*/__init__.py")}
    assert drawn()[0] == folders


def test_the_arrows_within_the_rooms_are_the_imports() -> None:
    within = {edge for edge in drawn()[1] if "." in edge[0] and "." in edge[1]}
    assert within == imported(), f"draw {sorted(imported() - within)}, take out {sorted(within - imported())}"


def test_the_arrows_between_the_rooms_are_the_layers() -> None:
    between = {edge for edge in drawn()[1] if "." not in edge[0]}
    assert between == {("pipeline", "serving"), ("serving", "trainer"), ("trainer", "components")}


def test_sub_rooms_import_each_other_in_one_direction() -> None:
    """No circle among the sub-rooms of a room, so that each can be read after those that it stands on."""
    edges = imported()
    waiting = {end for edge in edges for end in edge}
    while free := {room for room in waiting if not any(start == room and end in waiting for start, end in edges)}:
        waiting -= free
    assert not waiting, f"circle among {sorted(waiting)}"
