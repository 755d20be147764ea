"""Wires the nodes that both DAGs begin with: tables read and validated, media decoded, interactions in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tfx.components.example_validator.component import ExampleValidator
from tfx.dsl.components.base.base_node import BaseNode
from tfx.types.channel import BaseChannel

from components.config import DataConfig
from components.pretrained_config import Encoders
from components.settings import to_json
from pipeline.config import Config
from pipeline.fingerprint import code_fingerprint
from pipeline.nodes.curated_schema import CuratedSchema
from pipeline.nodes.data_gate import DataGate
from pipeline.nodes.frozen_encoders import FrozenEncoders
from pipeline.nodes.interactions import Interactions
from pipeline.nodes.media_features import MediaFeatures
from pipeline.nodes.table_gen import TableGen
from pipeline.nodes.table_statistics import TableStatistics


@dataclass(frozen=True)
class RunPaths:
    """Where a run leaves what outlives it, and the state of the files that it reads."""

    serving: str  # folder that holds a folder of versions for each served model
    blessed: str  # folder with the record of the last blessed model
    checkpoints: str  # folder for the checkpoints of trainings that were killed
    tuning: str  # folder that keeps searches of the tuner; none where empty
    catalogue_fingerprint: str
    events_fingerprint: str
    users_fingerprint: str
    media_fingerprint: str
    encoders_fingerprint: str
    exposures_fingerprint: str = ""  # empty where no list was shown
    withdrawn: tuple[str, ...] = ()  # ids of items that must not be shown
    forgotten: str = ""  # file with the ids of people whose rows must not be used; none where empty
    knows_last_ranker: bool = (
        True  # whether the orchestrator can find the last blessed ranker; Kubeflow cannot tell it from other models
    )


@dataclass(frozen=True)
class Ingest:
    """The first nodes, and what later ones read of them."""

    nodes: list[BaseNode]
    catalogue_schema: BaseChannel
    items: BaseChannel  # item examples, with what frozen encoders make of them
    sequences: BaseChannel


class CheckedTable(NamedTuple):
    """A table as examples, and what is compared before anything uses them."""

    gen: BaseNode
    statistics: BaseNode
    schema: BaseNode
    validator: BaseNode


def ingest(config: Config, paths: RunPaths) -> Ingest:
    """Tables and media -> item examples and sequences, behind a gate that stops the run on bad data.

    Interactions alone need not wait for it, since all that uses them uses the items, too.
    """
    catalogue, events = _catalogue(config, paths), _events(config, paths)
    gate = _gate(config, catalogue, events)
    media = _media_features(config, paths, catalogue)
    encoders = _frozen_encoders(config, paths, media)
    interactions = _interactions(config, catalogue, events)
    media.add_upstream_node(gate)
    optional = [encoders] if encoders else []
    return Ingest(
        nodes=[*catalogue, *events, gate, media, *optional, interactions],
        catalogue_schema=catalogue.schema.outputs["schema"],
        items=(encoders or media).outputs["examples"],
        sequences=interactions.outputs["sequences"],
    )


def _catalogue(config: Config, paths: RunPaths) -> CheckedTable:
    data = config.data.only("catalogue", "numeric", "categorical", "embeddings", "max_reject_share")
    columns = config.item_data.only("numeric", "categorical", "embeddings", "pieces")
    return _checked_table("catalogue", "Catalog", data, columns, paths.catalogue_fingerprint)


def _events(config: Config, paths: RunPaths) -> CheckedTable:
    data = config.data.only("events", "max_reject_share")
    return _checked_table("events", "Event", data, config.data.only(), paths.events_fingerprint, paths.forgotten)


def _checked_table(
    table: str, prefix: str, data: DataConfig, columns: DataConfig, fingerprint: str, forgotten: str = ""
) -> CheckedTable:
    """The nodes of one table.

    prefix: of the nodes' ids. data: what the table is read by. columns: what its schema is made of.
    fingerprint: of the table's files. forgotten: as RunPaths has it.
    """
    gen = TableGen(
        table=table,
        data=to_json(data),
        fingerprint=fingerprint,
        forgotten=forgotten,
        code=code_fingerprint("pipeline.nodes.table_gen"),
    ).with_id(f"{prefix}Gen")
    statistics = TableStatistics(
        examples=gen.outputs["examples"], code=code_fingerprint("pipeline.nodes.table_statistics")
    ).with_id(f"{prefix}Statistics")
    schema = CuratedSchema(
        table=table, data=to_json(columns), code=code_fingerprint("pipeline.nodes.curated_schema")
    ).with_id(f"{prefix}Schema")
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]).with_id(
        f"{prefix}Validator"
    )
    return CheckedTable(gen, statistics, schema, validator)


def _gate(config: Config, catalogue: CheckedTable, events: CheckedTable) -> BaseNode:
    return DataGate(
        catalogue_anomalies=catalogue.validator.outputs["anomalies"],
        event_anomalies=events.validator.outputs["anomalies"],
        catalogue_rejects=catalogue.gen.outputs["rejects"],
        event_rejects=events.gen.outputs["rejects"],
        max_reject_share=config.data.max_reject_share,
        code=code_fingerprint("pipeline.nodes.data_gate"),
    )


def _media_features(config: Config, paths: RunPaths, catalogue: CheckedTable) -> BaseNode:
    return MediaFeatures(
        catalogue=catalogue.gen.outputs["examples"],
        data=to_json(config.data.only("media_root", "media_roots", "max_reject_share")),
        fingerprint=paths.media_fingerprint,
        code=code_fingerprint("pipeline.nodes.media_features"),
    )


def _frozen_encoders(config: Config, paths: RunPaths, media: BaseNode) -> BaseNode | None:
    """Embeddings of pretrained models, where the configuration names some."""
    if not config.encoders:
        return None
    return FrozenEncoders(
        items=media.outputs["examples"],
        encoders=to_json(Encoders(config.encoders)),
        data=to_json(config.data.only("media_root", "media_roots", "max_reject_share")),
        fingerprint=paths.encoders_fingerprint,
        code=code_fingerprint("pipeline.nodes.frozen_encoders"),
    )


def _interactions(config: Config, catalogue: CheckedTable, events: CheckedTable) -> BaseNode:
    """Who took what, in order, split into train, eval and test."""
    return Interactions(
        events=events.gen.outputs["examples"],
        catalogue=catalogue.gen.outputs["examples"],
        event_rejects=events.gen.outputs["rejects"],
        catalogue_rejects=catalogue.gen.outputs["rejects"],
        data=to_json(config.data.only("event_rules", "split", "max_reject_share")),
        code=code_fingerprint("pipeline.nodes.interactions"),
    )
