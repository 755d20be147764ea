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
from components.pretrained_config import Encoders
from components.settings import to_json
from pipeline.config import Config
from pipeline.fingerprint import code_fingerprint
from pipeline.ingest import Ingest, RunPaths, ingest
from pipeline.nodes.item_index import ItemIndex
from pipeline.nodes.latest_blessed_ranker import LatestBlessedRanker
from pipeline.nodes.model_pusher import ModelPusher
from pipeline.nodes.pretraining import Pretraining
from pipeline.nodes.ranking_examples import RankingExamples
from pipeline.nodes.recommender import Recommender, RecommenderSettings
from pipeline.nodes.retrieval_evaluator import RetrievalEvaluator
from pipeline.nodes.retrieval_trainer import RetrievalTrainer
from pipeline.nodes.retrieval_tuner import RetrievalTuner
from pipeline.nodes.serving_validator import ServingValidator
from pipeline.nodes.table_gen import TableGen
from pipeline.ranking_evaluation import eval_config
from trainer.config.engine import EngineConfig
from trainer.config.ranking import RankingConfig

RETRIEVAL_RUN_FN = "trainer.retrieval.run.run_fn"
RANKING_RUN_FN = "trainer.ranking.run.run_fn"
ITEM_PREPROCESSING_FN = "components.transform.preprocessing.items"
ITEM_COLUMNS = ("numeric", "categorical", "embeddings", "pieces")
USER_COLUMNS = ("user_numeric", "user_categorical")
BEHAVIOUR = ("event_rules", "history_length")  # what a user tower is trained by
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
    users = _users(config, paths)
    tuner = _retrieval_tuner(config, paths, source, items)
    pretraining = _pretraining(config, items)
    retrieval = _retrieval_trainer(config, paths, source, items, users, tuner, pretraining)
    index = _item_index(config, source, retrieval.outputs["model"], items.outputs["transformed_examples"], "item_tower")
    evaluator = _retrieval_evaluator(config, paths, source, retrieval, index)
    examples = _ranking_examples(config, paths, source, retrieval, index)
    ranking = ranker_nodes(
        examples.outputs["examples"], config.data, config.ranking, config.engine, paths.knows_last_ranker
    )
    parts = ServableParts(
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        ranker=ranking.trainer.outputs["model"],
        ranker_blessing=ranking.evaluator.outputs["blessing"],
        model_blessing=evaluator.outputs["blessing"],
    )
    optional = [node for node in (users, tuner, pretraining) if node is not None]
    compared = [ranking.latest_blessed] if paths.knows_last_ranker else []
    return [
        *(*source.nodes, items, *optional, retrieval, index, evaluator, examples),
        *(ranking.trainer, *compared, ranking.evaluator, *_serving_nodes(config, paths, source, parts)),
    ]


def refresh(config: Config, paths: RunPaths, served: ServedModelUris) -> list[BaseNode]:
    """The refresh DAG: new catalogue and events under the model that is served; nothing is trained."""
    source = ingest(config, paths)
    model = Importer(source_uri=served.model, artifact_type=Model).with_id("TrainedRetrieval")
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
    return [*source.nodes, model, ranker, blessing, index, *_serving_nodes(config, paths, source, parts)]


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


def _users(config: Config, paths: RunPaths) -> BaseNode | None:
    """The users table, where a tower reads it."""
    data = config.data
    if not (config.retrieval.use_user_features and data.users):
        return None
    return TableGen(
        table="users",
        data=to_json(data.only("users", *USER_COLUMNS, "max_reject_share")),
        fingerprint=paths.users_fingerprint,
        code=code_fingerprint("pipeline.nodes.table_gen"),
    ).with_id("UserGen")


def _retrieval_tuner(config: Config, paths: RunPaths, source: Ingest, items: Transform) -> BaseNode | None:
    """The search for better settings, where the configuration asks for one."""
    if config.tuning is None:
        return None
    return RetrievalTuner(
        sequences=source.sequences,
        items=items.outputs["transformed_examples"],
        data=to_json(config.data.only(*BEHAVIOUR)),
        retrieval=to_json(config.retrieval),
        engine=to_json(config.engine),
        tuning=to_json(config.tuning),
        storage_dir=paths.tuning,
        code=code_fingerprint("pipeline.nodes.retrieval_tuner"),
    )


def _pretraining(config: Config, items: Transform) -> BaseNode | None:
    """Encoders pretrained on the catalogue alone, where the configuration asks for them."""
    if config.pretraining is None:
        return None
    return Pretraining(
        items=items.outputs["transformed_examples"],
        transform_graph=items.outputs["transform_graph"],
        data=to_json(config.item_data.only(*ITEM_COLUMNS)),
        encoder=to_json(config.retrieval.encoder),
        pretraining=to_json(config.pretraining),
        code=code_fingerprint("pipeline.nodes.pretraining"),
    )


def _retrieval_trainer(
    config: Config,
    paths: RunPaths,
    source: Ingest,
    items: Transform,
    users: BaseNode | None,
    tuner: BaseNode | None,
    pretraining: BaseNode | None,
) -> RetrievalTrainer:
    """The two towers."""
    private = config.privacy.differential
    return RetrievalTrainer(
        examples=source.sequences,
        items=items.outputs["transformed_examples"],
        users=users.outputs["examples"] if users else None,
        transform_graph=items.outputs["transform_graph"],
        encoder_weights=pretraining.outputs["weights"] if pretraining else None,
        run_fn=RETRIEVAL_RUN_FN,
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        custom_config={
            "data": to_json(config.item_data.only(*ITEM_COLUMNS, *BEHAVIOUR, *USER_COLUMNS)),
            "retrieval": to_json(config.retrieval),
            "engine": to_json(config.engine),
            "tuned": to_json(Encoders(Encoders(config.encoders).tuned)),
            "encoders_fingerprint": paths.encoders_fingerprint,
            "checkpoints": f"{paths.checkpoints}/RetrievalTrainer",
            "code": code_fingerprint(RETRIEVAL_RUN_FN),
            **({"privacy": to_json(private)} if private else {}),
        },
    )


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
