"""Wires what trains the retrieval model: what it reads, the trainer, and the training on everything after blessing."""

from __future__ import annotations

from typing import NamedTuple

from tfx.components.transform.component import Transform
from tfx.dsl.components.base.base_node import BaseNode

from components.pretrained_config import Encoders
from components.settings import to_json
from pipeline.config import Config
from pipeline.fingerprint import code_fingerprint
from pipeline.ingest import Ingest, RunPaths
from pipeline.nodes.pretraining import Pretraining
from pipeline.nodes.retrieval_refit import RetrievalRefit
from pipeline.nodes.retrieval_trainer import RetrievalTrainer
from pipeline.nodes.retrieval_tuner import RetrievalTuner
from pipeline.nodes.table_gen import TableGen

RETRIEVAL_RUN_FN = "trainer.retrieval.run.run_fn"
ITEM_COLUMNS = ("numeric", "categorical", "embeddings", "pieces")
USER_COLUMNS = ("user_numeric", "user_categorical")
BEHAVIOUR = ("event_rules", "history_length")  # what a user tower is trained by


class TrainingInputs(NamedTuple):
    """The nodes whose outputs the retrieval model is trained on; those that are not configured are None."""

    source: Ingest
    items: Transform
    users: BaseNode | None
    tuner: BaseNode | None
    pretraining: BaseNode | None

    @classmethod
    def of(cls, config: Config, paths: RunPaths, source: Ingest, items: Transform) -> TrainingInputs:
        """What the configuration asks for."""
        tuner = _retrieval_tuner(config, paths, source, items)
        return cls(source, items, _users(config, paths), tuner, _pretraining(config, items))

    @property
    def optional(self) -> list[BaseNode]:
        """The nodes that are there because the configuration asks for them."""
        return [node for node in (self.users, self.tuner, self.pretraining) if node is not None]


def _users(config: Config, paths: RunPaths) -> BaseNode | None:
    """The users table, where a tower reads it."""
    data = config.data
    if not (config.retrieval.use_user_features and data.users):
        return None
    return TableGen(
        table="users",
        data=to_json(data.only("users", *USER_COLUMNS, "max_reject_share")),
        fingerprint=paths.users_fingerprint,
        forgotten=paths.forgotten,
        code=code_fingerprint("pipeline.nodes.table_gen"),
    ).with_id("UserGen")


def _retrieval_tuner(config: Config, paths: RunPaths, source: Ingest, items: Transform) -> BaseNode | None:
    """The search for better settings, where the configuration asks for one."""
    if config.tuning is None:
        return None
    return RetrievalTuner(
        sequences=source.sequences,
        items=items.outputs["transformed_examples"],
        item_examples=source.items,
        data=to_json(config.data.only(*BEHAVIOUR, "undated_items")),
        retrieval=to_json(config.retrieval),
        engine=to_json(config.engine.training),
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


def retrieval_trainer(config: Config, paths: RunPaths, inputs: TrainingInputs) -> RetrievalTrainer:
    """The two towers."""
    private = config.privacy.differential
    return RetrievalTrainer(
        examples=inputs.source.sequences,
        items=inputs.items.outputs["transformed_examples"],
        item_examples=inputs.source.items,
        users=inputs.users.outputs["examples"] if inputs.users else None,
        transform_graph=inputs.items.outputs["transform_graph"],
        encoder_weights=inputs.pretraining.outputs["weights"] if inputs.pretraining else None,
        run_fn=RETRIEVAL_RUN_FN,
        hyperparameters=inputs.tuner.outputs["best_hyperparameters"] if inputs.tuner else None,
        custom_config={
            "data": _data_of_training(config),
            "retrieval": to_json(config.retrieval),
            "engine": to_json(config.engine.training),
            "encoders": to_json(Encoders(config.encoders)),
            "encoders_fingerprint": paths.encoders_fingerprint,
            "checkpoints": f"{paths.checkpoints}/RetrievalTrainer",
            "code": code_fingerprint(RETRIEVAL_RUN_FN),
            **({"privacy": to_json(private)} if private else {}),
        },
    )


def retrieval_refit(
    config: Config, inputs: TrainingInputs, retrieval: RetrievalTrainer, index: BaseNode, evaluator: BaseNode
) -> BaseNode:
    """The judged model trained again on everything, where it is blessed, and the index over it."""
    optional = {}
    if inputs.users:
        optional["users"] = inputs.users.outputs["examples"]
    if inputs.pretraining:
        optional["encoder_weights"] = inputs.pretraining.outputs["weights"]
    return RetrievalRefit(
        model=retrieval.outputs["model"],
        index=index.outputs["index"],
        blessing=evaluator.outputs["blessing"],
        sequences=inputs.source.sequences,
        items=inputs.items.outputs["transformed_examples"],
        item_examples=inputs.source.items,
        transform_graph=inputs.items.outputs["transform_graph"],
        data=_data_of_training(config),
        engine=to_json(config.engine.training),
        serving=to_json(config.serving),
        evaluation=to_json(config.evaluation),
        encoders=to_json(Encoders(config.encoders)),
        code=code_fingerprint("pipeline.nodes.retrieval_refit"),
        **optional,
    )


def _data_of_training(config: Config) -> str:
    """What the two towers know of the data, as JSON."""
    return to_json(config.item_data.only(*ITEM_COLUMNS, *BEHAVIOUR, *USER_COLUMNS, "undated_items"))
