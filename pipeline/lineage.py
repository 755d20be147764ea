"""Reads from ML Metadata which artifacts a pushed version was made from. Without TFX, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ml_metadata import errors
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

STORE = "metadata.sqlite"  # in the work folder
PUSHER = "ExactPusher"  # id of the node that pushes the model under the pipeline's own name


@dataclass(frozen=True)
class Part:
    """An artifact that a version was made from."""

    path: Path  # where it lies now
    is_blessed: bool = False  # of a blessing: whether it blesses


def parts_of_version(work_path: Path, name: str, version: str) -> dict[str, Part]:
    """What the version of a pipeline's model was made from; nothing where the work folder does not know.

    version: the name of the version's folder.
    Returns the inputs of the Recommender node that built it, by their names (`model`, `ranker`, `ranker_blessing`,
    `index`, `items`, `sequences`), the `catalogue` that the items were made of, the `transformed_items` that the
    retrieval model was trained on (after a refresh older than `items`), and the `judged_model` where `model` is that
    one trained again.
    Raises RuntimeError where the store of the runs cannot be read.
    """
    if not (work_path / STORE).is_file():
        return {}
    try:
        found = _Store(work_path).parts(name, version)
    except (errors.StatusError, RuntimeError) as error:  # of a call, and of opening the store
        raise RuntimeError(f"{work_path / STORE} cannot be read: {error}") from error
    return {
        key: Part(located(work_path, artifact.uri), bool(artifact.custom_properties["blessed"].int_value))
        for key, artifact in found.items()
    }


def open_store(work_path: Path) -> MetadataStore:
    """The store of a work folder's runs, for reading."""
    connection = pb.ConnectionConfig()
    connection.sqlite.filename_uri = str(work_path / STORE)
    connection.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READONLY
    return MetadataStore(connection)


class _Store:
    """The store of one work folder, opened for reading."""

    def __init__(self, work_path: Path):
        self._store = open_store(work_path)

    def parts(self, name: str, version: str) -> dict[str, pb.Artifact]:
        pushed = self._pushed(name, version)
        if pushed is None:
            return {}
        parts = self._made_from(pushed)
        items = self._made_from(parts["items"]) if "items" in parts else {}
        while "items" in items:  # through the node of the frozen encoders
            items = self._made_from(items["items"])
        model = self._made_from(parts["model"]) if "model" in parts else {}
        further = {
            "catalogue": items.get("catalogue"),
            "transformed_items": model.get("items"),
            "judged_model": model.get("model"),
        }
        return parts | {key: artifact for key, artifact in further.items() if artifact is not None}

    def _pushed(self, name: str, version: str) -> pb.Artifact | None:
        """The servable that was pushed as this version."""
        context = self._store.get_context_by_type_and_name("node", f"{name}.{PUSHER}")
        for execution in self._store.get_executions_by_context(context.id) if context else ():
            outputs = self._artifacts([execution.id], pb.Event.OUTPUT)
            if any(
                artifact.custom_properties["pushed_version"].string_value == version for artifact in outputs.values()
            ):
                return self._artifacts([execution.id], pb.Event.INPUT)["model"]
        return None

    def _made_from(self, artifact: pb.Artifact) -> dict[str, pb.Artifact]:
        """The inputs of the last execution that wrote what lies at the artifact's URI.

        An importer, which names what another has written, has none and is passed over.
        """
        same = self._store.get_artifacts_by_uri(artifact.uri)
        events = self._store.get_events_by_artifact_ids([one.id for one in same])
        for execution in sorted(
            {event.execution_id for event in events if event.type == pb.Event.OUTPUT}, reverse=True
        ):
            if inputs := self._artifacts([execution], pb.Event.INPUT):
                return inputs
        return {}

    def _artifacts(self, executions: Iterable[int], kind: int) -> dict[str, pb.Artifact]:
        """The first artifact of each input or output of some executions, by its name."""
        events = [event for event in self._store.get_events_by_execution_ids(executions) if event.type == kind]
        artifacts = {one.id: one for one in self._store.get_artifacts_by_id([event.artifact_id for event in events])}
        return {event.path.steps[0].key: artifacts[event.artifact_id] for event in reversed(events)}


def located(work_path: Path, uri: str) -> Path:
    """Where an artifact lies whose work folder may have been moved or copied: artifacts/node/output/execution."""
    written = Path(uri)
    moved = work_path.joinpath("artifacts", *written.parts[-3:])
    return moved if not written.exists() and moved.exists() else written
