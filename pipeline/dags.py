"""The DAGs, a node per paragraph, in the order in which the data flows. Wiring only."""

from __future__ import annotations

from dataclasses import dataclass

from tfx.components.example_validator.component import ExampleValidator
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.transform.component import Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.utils import import_utils

from components.curated_schema_node import CuratedSchema
from components.data_gate_node import DataGate
from components.interactions_node import Interactions
from components.item_index_node import ItemIndex
from components.media_features_node import MediaFeatures
from components.model_pusher_node import ModelPusher
from components.recommender_node import Recommender
from components.retrieval_evaluator_node import RetrievalEvaluator
from components.retrieval_trainer_node import RetrievalTrainer
from components.serving_validator_node import ServingValidator
from components.settings import to_json
from components.table_gen_node import TableGen
from pipeline.config import Config
from pipeline.fingerprint import code_fingerprint

RETRIEVAL_RUN_FN = "trainer.run_retrieval.run_fn"
ITEM_PREPROCESSING_FN = "components.preprocessing.items"
EVENT_PREPROCESSING_FN = "components.preprocessing.events"
ALL_ROWS = transform_pb2.SplitsConfig(analyze=["train"], transform=["train"])


@dataclass(frozen=True)
class Places:
    """Where a run leaves what outlives it, and the state of the files that it reads."""

    serving: str  # folder that holds a folder of versions for each served model
    blessed: str  # folder with the record of the last blessed model
    catalogue_fingerprint: str
    events_fingerprint: str
    media_fingerprint: str


def train(config: Config, places: Places) -> list[BaseNode]:
    """Everything, from the tables and the media files to a pushed model."""
    data = config.data
    gen_code = code_fingerprint("components.table_gen_node")

    catalogue = TableGen(
        table="catalogue",
        data=to_json(data.only("catalogue", "numeric", "categorical", "embeddings", "max_reject_share")),
        fingerprint=places.catalogue_fingerprint,
        code=gen_code,
    ).with_id("CatalogGen")

    events = TableGen(
        table="events", data=to_json(data.only("events", "max_reject_share")), fingerprint=places.events_fingerprint, code=gen_code
    ).with_id("EventGen")

    catalogue_statistics = StatisticsGen(examples=catalogue.outputs["examples"]).with_id("CatalogStatistics")
    event_statistics = StatisticsGen(examples=events.outputs["examples"]).with_id("EventStatistics")

    schema_code = code_fingerprint("components.curated_schema_node")
    columns = to_json(data.only("numeric", "categorical", "embeddings"))
    catalogue_schema = CuratedSchema(table="catalogue", data=columns, code=schema_code).with_id("CatalogSchema")
    event_schema = CuratedSchema(table="events", data=to_json(data.only("event_rules")), code=schema_code).with_id("EventSchema")

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
        code=code_fingerprint("components.data_gate_node"),
    )

    media = MediaFeatures(
        catalogue=catalogue.outputs["examples"],
        media_root=data.media_root,
        max_reject_share=data.max_reject_share,
        fingerprint=places.media_fingerprint,
        code=code_fingerprint("components.media_features_node"),
    )
    media.add_upstream_node(gate)

    items = Transform(
        examples=media.outputs["examples"],
        schema=catalogue_schema.outputs["schema"],
        preprocessing_fn=ITEM_PREPROCESSING_FN,
        splits_config=ALL_ROWS,
        disable_statistics=True,
        custom_config={"data": columns, "code": code_fingerprint(ITEM_PREPROCESSING_FN)},
    ).with_id("ItemTransform")

    event_transform = Transform(
        examples=events.outputs["examples"],
        schema=event_schema.outputs["schema"],
        preprocessing_fn=EVENT_PREPROCESSING_FN,
        splits_config=ALL_ROWS,
        disable_statistics=True,
        custom_config={"code": code_fingerprint(EVENT_PREPROCESSING_FN)},
    ).with_id("EventTransform")
    event_transform.add_upstream_node(gate)

    interactions = Interactions(
        events=events.outputs["examples"],
        catalogue=catalogue.outputs["examples"],
        data=to_json(data.only("event_rules", "split", "max_reject_share")),
        code=code_fingerprint("components.interactions_node"),
    )
    interactions.add_upstream_node(gate)

    retrieval = RetrievalTrainer(
        examples=interactions.outputs["sequences"],
        items=items.outputs["transformed_examples"],
        transform_graph=items.outputs["transform_graph"],
        run_fn=RETRIEVAL_RUN_FN,
        train_args=trainer_pb2.TrainArgs(),
        eval_args=trainer_pb2.EvalArgs(),
        custom_config={
            "data": to_json(data.only("numeric", "categorical", "embeddings", "event_rules")),
            "retrieval": to_json(config.retrieval),
            "code": code_fingerprint(RETRIEVAL_RUN_FN),
        },
    )

    serving = to_json(config.serving)
    index = ItemIndex(
        model=retrieval.outputs["model"],
        items=items.outputs["transformed_examples"],
        sequences=interactions.outputs["sequences"],
        serving=serving,
        code=code_fingerprint("components.item_index_node"),
    )

    evaluator = RetrievalEvaluator(
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        items=media.outputs["examples"],
        sequences=interactions.outputs["sequences"],
        counts=interactions.outputs["counts"],
        serving=serving,
        blessed_dir=places.blessed,
        code=code_fingerprint("components.retrieval_evaluator_node"),
    )

    recommender = Recommender(
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        items=media.outputs["examples"],
        sequences=interactions.outputs["sequences"],
        counts=interactions.outputs["counts"],
        serving=serving,
        code=code_fingerprint("components.recommender_node"),
    )

    validator = ServingValidator(
        exact=recommender.outputs["exact"],
        scann=recommender.outputs["scann"],
        code=code_fingerprint("components.serving_validator_node"),
    )

    pushers = [
        ModelPusher(
            model=recommender.outputs[kind],
            model_blessing=evaluator.outputs["blessing"],
            infra_blessing=validator.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=f"{places.serving}/{served_name(config.name, kind)}")
            ),
        ).with_id(f"{kind.capitalize()}Pusher")
        for kind in ("exact", "scann")
    ]

    return [
        *(catalogue, events, catalogue_statistics, event_statistics, catalogue_schema, event_schema),
        *(catalogue_anomalies, event_anomalies, gate, media, items, event_transform, interactions),
        *(retrieval, index, evaluator, recommender, validator, *pushers),
    ]


def served_name(name: str, kind: str) -> str:
    """The model name under which a variant is served: the pipeline's own for the exact one, which any TF Serving loads."""
    return name if kind == "exact" else f"{name}-{kind}"


def resolve_functions(nodes: list[BaseNode]) -> None:
    """Import every function that a node names by its dotted path. Raises ValueError for one that does not exist."""
    for node in nodes:
        for key in ("run_fn", "preprocessing_fn"):
            path = getattr(node, "exec_properties", {}).get(key)
            if path:
                try:
                    import_utils.import_class_by_path(path)
                except (ImportError, AttributeError) as error:
                    raise ValueError(f"{node.id}: there is no function {path}") from error
