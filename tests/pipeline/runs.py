"""Runs as ML Metadata remembers them: who wrote which artifact from which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from pipeline.lineage import STORE


class Runs:
    """A work folder with the store of its runs, written as TFX's launcher does."""

    def __init__(self, work_path: Path, name: str = "tiny"):
        self.work_path, self.name = work_path, name
        work_path.mkdir(parents=True, exist_ok=True)
        connection = pb.ConnectionConfig()
        connection.sqlite.filename_uri = str(work_path / STORE)
        connection.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self._store = MetadataStore(connection)
        self._artifact_type = self._store.put_artifact_type(pb.ArtifactType(name="Thing"))
        self._context_type = self._store.put_context_type(pb.ContextType(name="node"))
        self._run_type = self._store.put_context_type(pb.ContextType(name="pipeline_run"))
        self._run: int | None = None

    def begin(self, started_at: str) -> None:
        """What is executed from now on belongs to a run that started at a moment, in ISO 8601."""
        self._run = self._store.put_contexts([pb.Context(type_id=self._run_type, name=started_at)])[0]

    def execute(
        self,
        node: str,
        inputs: Mapping[str, int],
        outputs: Mapping[str, Mapping],
        state: int = pb.Execution.COMPLETE,
        used: Mapping[str, float | str] | None = None,
    ) -> dict[str, int]:
        """One execution of a node. outputs: name -> custom properties, `uri` among them where it is not the usual one.

        used: custom properties of the execution.
        Returns the outputs' artifact ids by name.
        """
        kind = self._store.put_execution_type(pb.ExecutionType(name=node))
        record = pb.Execution(type_id=kind, last_known_state=state)
        for key, value in (used or {}).items():
            if isinstance(value, int):
                record.custom_properties[key].int_value = value
            elif isinstance(value, str):
                record.custom_properties[key].string_value = value
            else:
                record.custom_properties[key].double_value = value
        (execution,) = self._store.put_executions([record])
        contexts = [self._context_of(node), *([self._run] if self._run else [])]
        associations = [pb.Association(execution_id=execution, context_id=context) for context in contexts]
        self._store.put_attributions_and_associations([], associations)
        made = {}
        for name, properties in outputs.items():
            artifact = pb.Artifact(type_id=self._artifact_type)
            given = dict(properties)
            artifact.uri = given.pop("uri", str(self.work_path / "artifacts" / node / name / str(execution)))
            for key, value in given.items():
                if isinstance(value, int):
                    artifact.custom_properties[key].int_value = value
                else:
                    artifact.custom_properties[key].string_value = value
            same = self._store.get_artifacts_by_uri(artifact.uri)
            made[name] = same[0].id if same else self._store.put_artifacts([artifact])[0]
            Path(artifact.uri).mkdir(parents=True, exist_ok=True)
        for kind_of_event, artifacts in ((pb.Event.INPUT, inputs), (pb.Event.OUTPUT, made)):
            for name, artifact_id in artifacts.items():
                event = pb.Event(execution_id=execution, artifact_id=artifact_id, type=kind_of_event)
                event.path.steps.add().key = name
                event.path.steps.add().index = 0
                self._store.put_events([event])
        return made

    def _context_of(self, node: str) -> int:
        name = f"{self.name}.{node}"
        known = self._store.get_context_by_type_and_name("node", name)
        return known.id if known else self._store.put_contexts([pb.Context(type_id=self._context_type, name=name)])[0]

    def train(self, version: str, ranks: bool = True) -> dict[str, int]:
        """A run of all nodes that matter here; pushed as `version`, or not blessed where that is empty.

        ranks: whether the ranker of a version is blessed.
        """
        catalogue = self.execute("CatalogGen", {}, {"examples": {}})["examples"]
        items = self.execute("MediaFeatures", {"catalogue": catalogue}, {"examples": {}})["examples"]
        transformed = self.execute("ItemTransform", {"examples": items}, {"transformed_examples": {}})
        trained_on = {"items": transformed["transformed_examples"]}
        judged = self.execute("RetrievalTrainer", trained_on, {"model": {}})["model"]
        refitted = self.execute("RetrievalRefit", {**trained_on, "model": judged}, {"served_model": {}})
        model = refitted["served_model"]
        ranker = self.execute("RankingTrainer", {}, {"model": {}})["model"]
        verdict = {"blessed": int(bool(version) and ranks)}
        blessing = self.execute("RankingEvaluator", {}, {"blessing": verdict})["blessing"]
        parts = {"model": model, "items": items, "ranker": ranker, "ranker_blessing": blessing}
        self.push(parts, version)
        return parts | {
            "catalogue": catalogue,
            "transformed_items": transformed["transformed_examples"],
            "judged_model": judged,
        }

    def refresh(self, parts: Mapping[str, int], version: str) -> dict[str, int]:
        """A run on the parts of another, with a catalogue of its own."""
        catalogue = self.execute("CatalogGen", {}, {"examples": {}})["examples"]
        items = self.execute("MediaFeatures", {"catalogue": catalogue}, {"examples": {}})["examples"]
        encoded = self.execute("FrozenEncoders", {"items": items}, {"examples": {}})["examples"]
        imported = self.execute("TrainedRetrieval", {}, {"result": {"uri": self.uri(parts["model"])}})["result"]
        self.push({**parts, "model": imported, "items": encoded}, version)
        return {"catalogue": catalogue, "items": encoded}

    def push(self, parts: Mapping[str, int], version: str) -> None:
        """Build the answer from its parts, and push it where there is a version."""
        names = ("model", "items", "ranker", "ranker_blessing")
        exact = self.execute("Recommender", {name: parts[name] for name in names}, {"exact": {}})["exact"]
        pushed = {"pushed": 1, "pushed_version": version} if version else {"pushed": 0}
        self.execute("ExactPusher", {"model": exact}, {"pushed_model": pushed})
        if version:
            (self.work_path / "serving" / self.name / version).mkdir(parents=True, exist_ok=True)

    def path(self, artifact_id: int) -> Path:
        """The folder of an artifact."""
        return Path(self.uri(artifact_id))

    def uri(self, artifact_id: int) -> str:
        """Where an artifact lies."""
        return self._store.get_artifacts_by_id([artifact_id])[0].uri
