"""Adds and withdraws items between two runs, in the served versions and on running servers."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.settings import SettingsError
from pipeline.config import Config
from pipeline.local_model import CurrentModel, newest_version

if TYPE_CHECKING:
    from serving.export.catalog_updates import AddedItem, CatalogUpdates

KINDS = ("exact", "scann")


class Encoded(NamedTuple):
    """The items of a table as vectors."""

    items: dict[str, AddedItem]
    rejects: list[dict]
    version: Path  # whose model made the vectors


def withdrawn_file(config: Config) -> Path:
    """A withdrawn id a line: what no later version may show."""
    return config.serving_path / "withdrawn.txt"


def withdrawn(config: Config) -> list[str]:
    """The ids that were withdrawn for good, in the order in which they were."""
    file = withdrawn_file(config)
    return file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []


def withdraw(config: Config, item_ids: Sequence[str], servers: Sequence[str]) -> None:
    """Show these items no more, in this version and in every later one.

    Raises SettingsError where nothing has been pushed, or for ids that no item has (nothing is changed then),
    RuntimeError where a server cannot be reached.
    """
    with _one_at_a_time(config):
        gone = set(withdrawn(config))
        CurrentModel(config).require_items([item_id for item_id in item_ids if item_id not in gone])
        _write_withdrawn(config, [*withdrawn(config), *item_ids])
        _change(config, servers, lambda changes: changes.withdraw(item_ids))


def note_withdrawn(config: Config, item_ids: Sequence[str]) -> None:
    """Keep these items out of every later version; the served ones stay as they are."""
    with _one_at_a_time(config):
        before = withdrawn(config)
        if set(item_ids) - set(before):
            _write_withdrawn(config, [*before, *item_ids])


def restore(config: Config, item_ids: Sequence[str], servers: Sequence[str]) -> None:
    """Show withdrawn items again, those that the served model knows.

    Raises SettingsError for one that was not withdrawn; else as `withdraw`.
    """
    from serving.export import catalog_updates as changes_lib

    with _one_at_a_time(config):
        listed = withdrawn(config)
        if unknown := [item_id for item_id in item_ids if item_id not in listed]:
            raise SettingsError(f"--restore: not withdrawn: {', '.join(unknown)}")
        model = CurrentModel(config)
        came_later = changes_lib.read(str(model.path)).added
        items = model.items(sorted(set(item_ids) & set(model.ids("item"))))
        items |= {item_id: came_later[item_id] for item_id in item_ids if item_id in came_later}
        _write_withdrawn(config, [item_id for item_id in listed if item_id not in item_ids])
        _change(config, servers, lambda changes: changes.add(items))


def add(config: Config, items: Mapping[str, AddedItem], version: Path, servers: Sequence[str]) -> int:
    """Show these items too, until the index is built anew; how many came since it was.

    version: whose model made their vectors, which mean nothing to another's.
    Raises SettingsError where one was withdrawn or nothing has been pushed, RuntimeError where another version was
    pushed meanwhile, where it cannot take them (it then stays as it was), or a server cannot be reached or refuses.
    """
    with _one_at_a_time(config):
        if newest(config) != version:
            raise RuntimeError(f"another version than {version.name} was pushed meanwhile: add the items again")
        if gone := sorted(set(items) & set(withdrawn(config))):
            raise SettingsError(f"withdrawn before, restore them first: {', '.join(gone)}")
        model = CurrentModel(config)
        model.add(items)  # what this one refuses would keep the version from being loaded again
        _change(config, servers, lambda changes: changes.add(items))
        return len(added(newest(config)))


def newest(config: Config) -> Path | None:
    """The newest version of the exact model, None where nothing has been pushed."""
    try:
        return newest_version(config.serving_path / config.name)
    except SettingsError:
        return None


def added(version: Path | None) -> dict[str, AddedItem]:
    """The items that came since a version was built; none of no version."""
    from serving.export import catalog_updates as changes_lib

    return changes_lib.read(str(version)).added if version else {}


def carry_over(
    config: Config, before: Path | None, came_before: Mapping[str, AddedItem], gone_before: Collection[str]
) -> None:
    """Bring versions that were just pushed up to what changed while they were made: what was withdrawn, what came, and
    what was restored.

    before: the version that was served until then, where it is of the same model, so that its vectors mean the same.
    came_before: what had been added to it when the run began: of that the catalogue speaks, which the run has read.
    gone_before: the ids that were withdrawn then, which the versions know.
    """
    with _one_at_a_time(config):
        gone = withdrawn(config)
        late = {
            item_id: item
            for item_id, item in added(before).items()
            if item_id not in came_before and item_id not in gone
        }
        if restored := set(gone_before) - {*gone, *late}:
            model = CurrentModel(config)
            late |= model.items(sorted(restored & set(model.ids("item"))))
        if not gone and not late:
            return

        def change(changes: CatalogUpdates) -> None:
            changes.add(late)
            changes.withdraw(gone)

        _change(config, (), change)


def outside_catalogue(config: Config) -> list[str]:
    """The ids of items that came since the newest version was built and that `data.catalogue` does not have: a version
    that is built now would not know them. Raises TableError where the table cannot be used."""
    from pipeline.table_rows import accepted_rows

    came = added(newest(config)).keys() - withdrawn(config)
    return sorted(came - {row["item_id"] for row in accepted_rows(config.data, "catalogue")})


def encode(config: Config, table: Path) -> Encoded:
    """The items of a table with the catalogue's columns, by the served model; and what was left out, as rejects.

    Raises SettingsError where nothing has been pushed or the table cannot be used.
    """
    import apache_beam as beam
    import tensorflow as tf

    from components.artifacts import WriteRecords
    from components.media.addresses import MediaRoots
    from components.media.features import REJECTS, AddMediaFeatures
    from components.rejects import sample_rejects
    from components.tables.columns import table_and_columns
    from components.tables.examples import TableToExamples
    from components.tables.inspection import inspect_table
    from components.tables.raw import TableError

    model = CurrentModel(config)
    data = replace(config.data, catalogue=replace(config.data.catalogue, path=str(table)))
    try:
        settings, columns = table_and_columns(data, "catalogue")
        facts = inspect_table(settings, columns)
    except TableError as error:
        raise SettingsError(f"--catalogue: {error}") from error
    with tempfile.TemporaryDirectory(prefix="zhiyin-add-") as folder:
        with beam.Pipeline() as pipeline:
            _ = pipeline | TableToExamples("catalogue", columns, facts, f"{folder}/rows", f"{folder}/rejects")
        roots = MediaRoots(data.media_root, data.media_roots)
        with beam.Pipeline() as pipeline:
            found = pipeline | beam.io.ReadFromTFRecord(f"{folder}/rows/*") | AddMediaFeatures(roots)
            _ = found["items"] | WriteRecords(f"{folder}/items")
            _ = (
                found[REJECTS]
                | beam.Map(json.dumps, ensure_ascii=False)
                | beam.io.WriteToText(f"{folder}/media.jsonl", shard_name_template="")
            )
        with Path(folder, "media.jsonl").open(encoding="utf-8") as media_rejects:
            rejects = [*sample_rejects(f"{folder}/rejects", sys.maxsize), *map(json.loads, media_rejects)]
        items = model.encode(f"{folder}/items") if tf.io.gfile.glob(f"{folder}/items/*") else {}
    return Encoded(items, rejects, model.path)


def _change(config: Config, servers: Sequence[str], change: Callable[[CatalogUpdates], None]) -> None:
    from serving.export import catalog_updates as changes_lib

    names = [config.served_name(kind) for kind in KINDS]
    versions = {name: newest_version(config.serving_path / name) for name in names}
    only = changes_lib.CatalogUpdates()
    change(only)
    for version in versions.values():
        state = changes_lib.read(str(version))
        change(state)
        changes_lib.write(str(version), state)
    for server in servers:
        for name in _served_by(server, names):
            changes_lib.send(server, name, only)


def _served_by(server: str, names: Sequence[str]) -> list[str]:
    """Which of these models a server has. Raises RuntimeError where it has none or cannot be reached."""
    import grpc
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    from serving.loopback import grpc_options

    found = []
    with grpc.insecure_channel(server, grpc_options(server)) as channel:
        for name in names:
            request = get_model_status_pb2.GetModelStatusRequest()
            request.model_spec.name = name
            try:
                model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=10)
                found.append(name)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.NOT_FOUND:
                    raise RuntimeError(f"{server}: {error.code().name} {error.details()}") from error
    if not found:
        raise RuntimeError(f"{server} serves neither {' nor '.join(names)}")
    return found


def _write_withdrawn(config: Config, item_ids: Sequence[str]) -> None:
    file = withdrawn_file(config)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text("".join(f"{item_id}\n" for item_id in dict.fromkeys(item_ids)), encoding="utf-8")
    partial.replace(file)


@contextmanager
def _one_at_a_time(config: Config) -> Iterator[None]:
    """Updates are read, made and written; two writers would lose one."""
    import fcntl

    config.serving_path.mkdir(parents=True, exist_ok=True)
    with (config.serving_path / ".changes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
