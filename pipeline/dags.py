"""Wires the training DAG and the refresh DAG of TFX nodes; a function for each node with its inputs and settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tfx.components.evaluator.component import Evaluator
from tfx.components.trainer.component import Trainer
from tfx.components.transform.component import Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.resolver import Resolver
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types.channel import BaseChannel, Channel
from tfx.types.standard_artifacts import Model, ModelBlessing
from tfx.utils import import_utils

from components.config import DataConfig
from components.settings import to_json
from pipeline.config import Config
from pipeline.fingerprint import code_fingerprint
from pipeline.ingest import Ingest, RunPaths, ingest
from pipeline.nodes.item_index import ItemIndex
from pipeline.nodes.latest_blessed_ranker import LatestBlessedRanker
from pipeline.nodes.model_pusher import ModelPusher
from pipeline.nodes.ranking_examples import RankingExamples
from pipeline.nodes.recommender import Recommender, RecommenderSettings
from pipeline.nodes.retrieval_evaluator import RetrievalEvaluator
from pipeline.nodes.retrieval_trainer import RetrievalTrainer
from pipeline.nodes.serving_validator import ServingValidator
from pipeline.ranking_evaluation import eval_config
from pipeline.retrieval_nodes import (
    BEHAVIOUR,
    ITEM_COLUMNS,
    TrainingInputs,
    retrieval_refit,
    retrieval_trainer,
)
from pipeline.run_history import TRAINED_BEFORE
from trainer.config.engine import EngineConfig
from trainer.config.ranking import RankingConfig

RANKING_RUN_FN = "trainer.ranking.run.run_fn"
ITEM_PREPROCESSING_FN = "components.transform.preprocessing.items"
RANKER_DATA = ("numeric", "categorical", *BEHAVIOUR, "undated_items")  # what the ranker knows of the data
ALL_ROWS = transform_pb2.SplitsConfig(analyze=["train"], transform=["train"])
KINDS = ("exact", "scann")  # variants of the servable


@dataclass(frozen=True)
class ServedModelUris:
    """Where the parts of the model that is served lie."""

    model: str
    ranker: str
    ranker_blessing: str
    ranker_is_blessed: bool


class ServableParts(NamedTuple):
    """What a servable is built from, and the blessings that it needs to be pushed."""

    model: BaseChannel
    index: BaseChannel
    ranker: BaseChannel
    ranker_blessing: BaseChannel
    model_blessing: BaseChannel | None = None  # none where the model has been blessed before


class RankerNodes(NamedTuple):
    """The ranker of this run, the latest blessed one before it, and the comparison of both."""

    trainer: Trainer
    latest_blessed: Resolver
    evaluator: Evaluator


def train(config: Config, paths: RunPaths) -> list[BaseNode]:
    """The training DAG: from the tables and the media files to a pushed model."""
    source = ingest(config, paths)
    items = _item_transform(config, source)
    inputs = TrainingInputs.of(config, paths, source, items)
    retrieval = retrieval_trainer(config, paths, inputs)
    index = _item_index(config, source, retrieval.outputs["model"], items.outputs["transformed_examples"], "item_tower")
    evaluator = _retrieval_evaluator(config, paths, source, retrieval, index)
    examples = _ranking_examples(config, paths, source, retrieval, index)
    ranking = ranker_nodes(
        examples.outputs["examples"], config.data, config.ranking, config.engine.training, paths.knows_last_ranker
    )
    refits = config.refit and not config.privacy.differential  # each training spends the privacy budget anew
    refit = retrieval_refit(config, inputs, retrieval, index, evaluator) if refits else None
    parts = ServableParts(
        model=refit.outputs["served_model"] if refit else retrieval.outputs["model"],
        index=refit.outputs["served_index"] if refit else index.outputs["index"],
        ranker=ranking.trainer.outputs["model"],
        ranker_blessing=ranking.evaluator.outputs["blessing"],
        model_blessing=evaluator.outputs["blessing"],
    )
    compared = [ranking.latest_blessed] if paths.knows_last_ranker else []
    served = [*([refit] if refit else []), *_serving_nodes(config, paths, source, parts)]
    return [
        *(*source.nodes, items, *inputs.optional, retrieval, index, evaluator, examples),
        *(ranking.trainer, *compared, ranking.evaluator, *served),
    ]


def refresh(config: Config, paths: RunPaths, served: ServedModelUris) -> list[BaseNode]:
    """The refresh DAG: new catalogue and events under the model that is served; nothing is trained."""
    source = ingest(config, paths)
    model = Importer(source_uri=served.model, artifact_type=Model).with_id(TRAINED_BEFORE)
    ranker = Importer(source_uri=served.ranker, artifact_type=Model).with_id("TrainedRanker")
    blessing = Importer(
        source_uri=served.ranker_blessing,
        artifact_type=ModelBlessing,
        custom_properties={"blessed": int(served.ranker_is_blessed)},
    ).with_id("TrainedRankerBlessing")
    index = _item_index(config, source, model.outputs["result"], source.items, "encode_item")
    parts = ServableParts(
        model=model.outputs["result"],
        index=index.outputs["index"],
        ranker=ranker.outputs["result"],
        ranker_blessing=blessing.outputs["result"],
    )
    return [model, ranker, blessing, *source.nodes, index, *_serving_nodes(config, paths, source, parts)]


def _item_transform(config: Config, source: Ingest) -> Transform:
    """Vocabularies and normalised features of the items."""
    columns = to_json(config.item_data.only(*ITEM_COLUMNS))
    return Transform(
        examples=source.items,
        schema=source.catalogue_schema,
        preprocessing_fn=ITEM_PREPROCESSING_FN,
        splits_config=ALL_ROWS,
        disable_statistics=True,
        custom_config={"data": columns, "code": code_fingerprint(ITEM_PREPROCESSING_FN)},
    ).with_id("ItemTransform")


def _item_index(config: Config, source: Ingest, model: BaseChannel, items: BaseChannel, signature: str) -> BaseNode:
    """The vectors of all items, searchable. signature: of the model, what encodes items of this kind."""
    return ItemIndex(
        model=model,
        items=items,
        sequences=source.sequences,
        signature=signature,
        serving=to_json(config.serving),
        history_length=config.data.history_length,
        code=code_fingerprint("pipeline.nodes.item_index"),
    )


def _retrieval_evaluator(
    config: Config, paths: RunPaths, source: Ingest, retrieval: RetrievalTrainer, index: BaseNode
) -> BaseNode:
    """Full ranking on the test split, and the blessing of the model."""
    return RetrievalEvaluator(
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        items=source.items,
        sequences=source.sequences,
        settings=to_json(config.evaluation),
        data=to_json(config.data.only("history_length", "undated_items")),
        blessed_dir=paths.blessed,
        code=code_fingerprint("pipeline.nodes.retrieval_evaluator"),
    )


def _ranking_examples(
    config: Config, paths: RunPaths, source: Ingest, retrieval: RetrievalTrainer, index: BaseNode
) -> BaseNode:
    """What people took, beside what retrieval would have shown them at that time."""
    return RankingExamples(
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        items=source.items,
        sequences=source.sequences,
        data=to_json(config.data.only(*RANKER_DATA, "exposures")),
        exposures_fingerprint=paths.exposures_fingerprint,
        ranking=to_json(config.ranking),
        candidates=config.serving.index.candidates,
        code=code_fingerprint("pipeline.nodes.ranking_examples"),
    )


def ranker_nodes(
    examples: BaseChannel, data: DataConfig, ranking: RankingConfig, engine: EngineConfig, knows_last: bool
) -> RankerNodes:
    """The ranker on these examples, compared with the latest blessed one.

    knows_last: whether the orchestrator can find a blessed ranker of an earlier run.
    """
    ranker = Trainer(
        examples=examples,
        run_fn=RANKING_RUN_FN,
        custom_config={
            "data": to_json(data.only(*RANKER_DATA)),
            "ranking": to_json(ranking),
            "engine": to_json(engine),
            "code": code_fingerprint(RANKING_RUN_FN),
        },
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
    ).with_id("RankingTrainer")

    latest = Resolver(
        strategy_class=LatestBlessedRanker,
        model=Channel(type=Model, producer_component_id=ranker.id),
        model_blessing=Channel(type=ModelBlessing),
        current=ranker.outputs["model"],
    ).with_id("LastBlessedRanker")

    evaluator = Evaluator(
        examples=examples,
        example_splits=["test"],
        model=ranker.outputs["model"],
        baseline_model=latest.outputs["model"] if knows_last else None,
        eval_config=eval_config(data, ranking),
    ).with_id("RankingEvaluator")
    return RankerNodes(ranker, latest, evaluator)


def _serving_nodes(config: Config, paths: RunPaths, source: Ingest, parts: ServableParts) -> list[BaseNode]:
    """From the parts to pushed versions: the servables, their validation, and a pusher for each variant."""
    settings = RecommenderSettings(
        serving=config.serving,
        data=config.data.only(*RANKER_DATA),
        ranking=config.ranking,
        withdrawn=paths.withdrawn,
    )
    recommender = Recommender(
        model=parts.model,
        index=parts.index,
        items=source.items,
        sequences=source.sequences,
        ranker=parts.ranker,
        ranker_blessing=parts.ranker_blessing,
        settings=to_json(settings),
        code=code_fingerprint("pipeline.nodes.recommender"),
    )
    validator = ServingValidator(
        exact=recommender.outputs["exact"],
        scann=recommender.outputs["scann"],
        code=code_fingerprint("pipeline.nodes.serving_validator"),
    )
    pushers = [
        ModelPusher(
            model=recommender.outputs[kind],
            model_blessing=parts.model_blessing,
            infra_blessing=validator.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(
                    base_directory=f"{paths.serving}/{config.served_name(kind)}"
                )
            ),
        ).with_id(f"{kind.capitalize()}Pusher")
        for kind in KINDS
    ]
    return [recommender, validator, *pushers]


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
