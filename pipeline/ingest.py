"""The nodes that both DAGs begin with: the tables, read and judged, the media, decoded, and who took what, in order."""

from __future__ import annotations

from dataclasses import dataclass

from tfx.components.example_validator.component import ExampleValidator
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.dsl.components.base.base_node import BaseNode
from tfx.types.channel import BaseChannel

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


@dataclass(frozen=True)
class Places:
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
    withdrawn: tuple[str, ...] = ()  # ids of items that must not be shown
    knows_last_ranker: bool = (
        True  # whether the orchestrator can find the last blessed ranker; Kubeflow cannot tell it from other models
    )


@dataclass(frozen=True)
class Ingest:
    """The first nodes, in the order in which they run, and what later ones read of them."""

    nodes: list[BaseNode]
    gate: BaseNode  # the run stops here where the data is not what it should be
    catalogue_schema: BaseChannel
    items: BaseChannel  # item examples, with what frozen encoders make of them
    sequences: BaseChannel


def ingest(config: Config, places: Places) -> Ingest:
    """Tables and media -> item examples and sequences."""
    data = config.data
    gen_code = code_fingerprint("pipeline.nodes.table_gen")

    catalogue = TableGen(
        table="catalogue",
        data=to_json(data.only("catalogue", "numeric", "categorical", "embeddings", "max_reject_share")),
        fingerprint=places.catalogue_fingerprint,
        code=gen_code,
    ).with_id("CatalogGen")

    events = TableGen(
        table="events",
        data=to_json(data.only("events", "max_reject_share")),
        fingerprint=places.events_fingerprint,
        code=gen_code,
    ).with_id("EventGen")

    catalogue_statistics = StatisticsGen(examples=catalogue.outputs["examples"]).with_id("CatalogStatistics")
    event_statistics = StatisticsGen(examples=events.outputs["examples"]).with_id("EventStatistics")

    schema_code = code_fingerprint("pipeline.nodes.curated_schema")
    columns = to_json(config.item_data.only("numeric", "categorical", "embeddings", "pieces"))
    catalogue_schema = CuratedSchema(table="catalogue", data=columns, code=schema_code).with_id("CatalogSchema")
    event_schema = CuratedSchema(table="events", data=to_json(data.only()), code=schema_code).with_id("EventSchema")

    catalogue_anomalies = ExampleValidator(
        statistics=catalogue_statistics.outputs["statistics"], schema=catalogue_schema.outputs["schema"]
    ).with_id("CatalogValidator")
    event_anomalies = ExampleValidator(
        statistics=event_statistics.outputs["statistics"], schema=event_schema.outputs["schema"]
    ).with_id("EventValidator")

    gate = DataGate(
        catalogue_anomalies=catalogue_anomalies.outputs["anomalies"],
        event_anomalies=event_anomalies.outputs["anomalies"],
        catalogue_rejects=catalogue.outputs["rejects"],
        event_rejects=events.outputs["rejects"],
        max_reject_share=data.max_reject_share,
        code=code_fingerprint("pipeline.nodes.data_gate"),
    )

    media = MediaFeatures(
        catalogue=catalogue.outputs["examples"],
        data=to_json(data.only("media_root", "media_roots", "max_reject_share")),
        fingerprint=places.media_fingerprint,
        code=code_fingerprint("pipeline.nodes.media_features"),
    )
    media.add_upstream_node(gate)

    item_examples, frozen = media.outputs["examples"], []
    if config.encoders:
        encoded = FrozenEncoders(
            items=item_examples,
            encoders=to_json(Encoders(config.encoders)),
            data=to_json(data.only("media_root", "media_roots")),
            fingerprint=places.encoders_fingerprint,
            code=code_fingerprint("pipeline.nodes.frozen_encoders"),
        )
        item_examples, frozen = encoded.outputs["examples"], [encoded]

    interactions = Interactions(
        events=events.outputs["examples"],
        catalogue=catalogue.outputs["examples"],
        data=to_json(data.only("event_rules", "split", "max_reject_share")),
        code=code_fingerprint("pipeline.nodes.interactions"),
    )
    interactions.add_upstream_node(gate)

    return Ingest(
        nodes=[
            *(catalogue, events, catalogue_statistics, event_statistics, catalogue_schema, event_schema),
            *(catalogue_anomalies, event_anomalies, gate, media, *frozen, interactions),
        ],
        gate=gate,
        catalogue_schema=catalogue_schema.outputs["schema"],
        items=item_examples,
        sequences=interactions.outputs["sequences"],
    )
