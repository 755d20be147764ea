"""The DAGs, a node per paragraph, in the order in which the data flows. Wiring only."""

from __future__ import annotations

import json
from dataclasses import dataclass

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
from pipeline.ingest import Ingest, Places, ingest
from pipeline.nodes.item_index import ItemIndex
from pipeline.nodes.latest_blessed_ranker import LastBlessedRanker
from pipeline.nodes.model_pusher import ModelPusher
from pipeline.nodes.pretraining import Pretraining
from pipeline.nodes.ranking_examples import RankingExamples
from pipeline.nodes.recommender import Recommender
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
FACTS = (
    "numeric",
    "categorical",
    "event_rules",
    "history_length",
    "undated_items",
)  # what of the data the ranker knows
ALL_ROWS = transform_pb2.SplitsConfig(analyze=["train"], transform=["train"])


@dataclass(frozen=True)
class Trained:
    """Where the parts of the model that is served lie."""

    model: str
    ranker: str
    ranker_blessing: str
    ranker_is_blessed: bool


def train(config: Config, places: Places) -> list[BaseNode]:
    """Everything, from the tables and the media files to a pushed model."""
    data = config.data
    read = ingest(config, places)

    columns = to_json(config.item_data.only("numeric", "categorical", "embeddings", "pieces"))
    items = Transform(
        examples=read.items,
        schema=read.catalogue_schema,
        preprocessing_fn=ITEM_PREPROCESSING_FN,
        splits_config=ALL_ROWS,
        disable_statistics=True,
        custom_config={"data": columns, "code": code_fingerprint(ITEM_PREPROCESSING_FN)},
    ).with_id("ItemTransform")

    pretraining = []
    if config.pretraining:
        pretraining = [
            Pretraining(
                items=items.outputs["transformed_examples"],
                transform_graph=items.outputs["transform_graph"],
                data=columns,
                encoder=to_json(config.retrieval.encoder),
                pretraining=to_json(config.pretraining),
                code=code_fingerprint("pipeline.nodes.pretraining"),
            )
        ]
    retrieval_settings = {
        "data": to_json(data.only("event_rules", "history_length")),
        "retrieval": to_json(config.retrieval),
        "engine": to_json(config.engine),
    }
    tuner = (
        RetrievalTuner(
            sequences=read.sequences,
            items=items.outputs["transformed_examples"],
            **retrieval_settings,
            tuning=to_json(config.tuning),
            storage_dir=places.tuning,
            code=code_fingerprint("pipeline.nodes.retrieval_tuner"),
        )
        if config.tuning
        else None
    )

    users = None
    if config.retrieval.use_user_features and data.users:
        users = TableGen(
            table="users",
            data=to_json(data.only("users", "user_numeric", "user_categorical", "max_reject_share")),
            fingerprint=places.users_fingerprint,
            code=code_fingerprint("pipeline.nodes.table_gen"),
        ).with_id("UserGen")

    retrieval = RetrievalTrainer(
        examples=read.sequences,
        items=items.outputs["transformed_examples"],
        users=users.outputs["examples"] if users else None,
        transform_graph=items.outputs["transform_graph"],
        encoder_weights=pretraining[0].outputs["weights"] if pretraining else None,
        run_fn=RETRIEVAL_RUN_FN,
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        custom_config={
            **retrieval_settings,
            "data": to_json(
                config.item_data.only(
                    "numeric",
                    "categorical",
                    "embeddings",
                    "pieces",
                    "event_rules",
                    "history_length",
                    "user_numeric",
                    "user_categorical",
                )
            ),
            "tuned": to_json(Encoders(Encoders(config.encoders).tuned)),
            "encoders_fingerprint": places.encoders_fingerprint,
            "checkpoints": f"{places.checkpoints}/RetrievalTrainer",
            "code": code_fingerprint(RETRIEVAL_RUN_FN),
        },
    )

    index = ItemIndex(
        model=retrieval.outputs["model"],
        items=items.outputs["transformed_examples"],
        sequences=read.sequences,
        serving=to_json(config.serving),
        history_length=data.history_length,
        code=code_fingerprint("pipeline.nodes.item_index"),
    )

    evaluator = RetrievalEvaluator(
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        items=read.items,
        sequences=read.sequences,
        settings=to_json(config.evaluation),
        data=to_json(data.only("history_length", "undated_items")),
        blessed_dir=places.blessed,
        code=code_fingerprint("pipeline.nodes.retrieval_evaluator"),
    )

    ranking = to_json(config.ranking)
    facts = to_json(data.only(*FACTS))
    ranking_examples = RankingExamples(
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        items=read.items,
        sequences=read.sequences,
        data=facts,
        ranking=ranking,
        candidates=config.serving.index.candidates,
        code=code_fingerprint("pipeline.nodes.ranking_examples"),
    )

    ranker, last_ranker, ranking_evaluator = judged_ranker(
        ranking_examples.outputs["examples"], data, config.ranking, config.engine, places.knows_last_ranker
    )

    served = _served(
        config,
        places,
        read,
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        ranker=ranker.outputs["model"],
        ranker_blessing=ranking_evaluator.outputs["blessing"],
        model_blessing=evaluator.outputs["blessing"],
    )

    return [
        *(*read.nodes, items),
        *([users] if users else []),
        *([tuner] if tuner else []),
        *pretraining,
        *(retrieval, index, evaluator, ranking_examples, ranker),
        *([last_ranker] if places.knows_last_ranker else []),
        *(ranking_evaluator, *served),
    ]


def judged_ranker(
    examples: BaseChannel, data: DataConfig, ranking: RankingConfig, engine: EngineConfig, knows_last: bool
) -> tuple[Trainer, Resolver, Evaluator]:
    """The ranker on these examples, the last blessed one, and the judge of both. knows_last: whether there may be a last one."""
    ranker = Trainer(
        examples=examples,
        run_fn=RANKING_RUN_FN,
        custom_config={
            "data": to_json(data.only(*FACTS)),
            "ranking": to_json(ranking),
            "engine": to_json(engine),
            "code": code_fingerprint(RANKING_RUN_FN),
        },
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
    ).with_id("RankingTrainer")

    last = Resolver(
        strategy_class=LastBlessedRanker,
        model=Channel(type=Model, producer_component_id=ranker.id),
        model_blessing=Channel(type=ModelBlessing),
        current=ranker.outputs["model"],
    ).with_id("LastBlessedRanker")

    judge = Evaluator(
        examples=examples,
        example_splits=["test"],
        model=ranker.outputs["model"],
        baseline_model=last.outputs["model"] if knows_last else None,
        eval_config=eval_config(data, ranking),
    ).with_id("RankingEvaluator")
    return ranker, last, judge


def refresh(config: Config, places: Places, trained: Trained) -> list[BaseNode]:
    """New catalogue and events under the model that is served: features, vectors, index, answer, push. Nothing is trained."""
    read = ingest(config, places)

    model = Importer(source_uri=trained.model, artifact_type=Model).with_id("TrainedRetrieval")
    ranker = Importer(source_uri=trained.ranker, artifact_type=Model).with_id("TrainedRanker")
    blessing = Importer(
        source_uri=trained.ranker_blessing,
        artifact_type=ModelBlessing,
        custom_properties={"blessed": int(trained.ranker_is_blessed)},
    ).with_id("TrainedRankerBlessing")

    index = ItemIndex(
        model=model.outputs["result"],
        items=read.items,
        sequences=read.sequences,
        signature="encode_item",
        serving=to_json(config.serving),
        history_length=config.data.history_length,
        code=code_fingerprint("pipeline.nodes.item_index"),
    )

    served = _served(
        config,
        places,
        read,
        model=model.outputs["result"],
        index=index.outputs["index"],
        ranker=ranker.outputs["result"],
        ranker_blessing=blessing.outputs["result"],
        model_blessing=None,
    )

    return [*read.nodes, model, ranker, blessing, index, *served]


def _served(
    config: Config,
    places: Places,
    read: Ingest,
    model: BaseChannel,
    index: BaseChannel,
    ranker: BaseChannel,
    ranker_blessing: BaseChannel,
    model_blessing: BaseChannel | None,
) -> list[BaseNode]:
    """From the parts to pushed versions: the answer, its proof, and a pusher for each variant."""
    recommender = Recommender(
        model=model,
        index=index,
        items=read.items,
        sequences=read.sequences,
        ranker=ranker,
        ranker_blessing=ranker_blessing,
        serving=to_json(config.serving),
        data=to_json(config.data.only(*FACTS)),
        ranking=to_json(config.ranking),
        withdrawn=json.dumps(places.withdrawn),
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
            model_blessing=model_blessing,
            infra_blessing=validator.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(
                    base_directory=f"{places.serving}/{served_name(config.name, kind)}"
                )
            ),
        ).with_id(f"{kind.capitalize()}Pusher")
        for kind in ("exact", "scann")
    ]

    return [recommender, validator, *pushers]


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
