"""The wiring of the DAGs: every node is there for another one, or for somebody who reads what a run leaves."""

from __future__ import annotations

import dataclasses

import pytest
from tfx.dsl.components.common.resolver import Resolver
from tfx.types import Channel

from components.config import TableConfig
from components.pretrained_config import PretrainedConfig
from components.settings import from_json
from pipeline import dags
from pipeline.ingest import RunPaths
from pipeline.nodes.recommender import RecommenderSettings
from pipeline.run_history import TRAINED_BEFORE
from trainer.config.pretraining import PretrainingConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.config.tuning import TuningConfig

RESULTS = {  # outputs that no node takes, and who reads them
    "CatalogGen.rejects", "EventGen.rejects",  # the gate takes them too; `rejects.csv`
    "UserGen.rejects", "MediaFeatures.rejects", "FrozenEncoders.rejects", "Interactions.rejects",  # `rejects.csv`
    "ItemTransform.transform_graph", "ItemTransform.updated_analyzer_cache",  # TFX's Transform leaves them
    "RetrievalTrainer.model_run", "RankingTrainer.model_run",  # for TensorBoard
    "RetrievalTuner.tuner_results",  # `zhiyin tune`
    "RetrievalEvaluator.evaluation", "RankingEvaluator.evaluation",  # the tables and lines of a run
    "ExactPusher.pushed_model", "ScannPusher.pushed_model",  # pipeline.lineage
}  # fmt: skip


@pytest.fixture
def config(config_of, tmp_path):
    """A configuration with every optional node."""
    made = config_of(tmp_path)
    data = dataclasses.replace(made.data, users=TableConfig("users.csv"), media_root="media")
    return dataclasses.replace(
        made,
        data=data,
        encoders=(PretrainedConfig(name="words", kind="text", path="m", dim=4),),
        retrieval=RetrievalConfig(use_user_features=True),
        pretraining=PretrainingConfig(),
        tuning=TuningConfig(),
    )


@pytest.fixture
def paths():
    return RunPaths("serving", "blessed", "checkpoints", "tuning", "1", "2", "3", "4", "5")


def wires(nodes) -> tuple[set[str], set[str]]:
    """`node.output` of all outputs of nodes that execute something, and of those that a node takes."""
    made = {f"{node.id}.{name}" for node in nodes if not isinstance(node, Resolver) for name in node.outputs}
    channels = [one for node in nodes for one in node.inputs.values() if isinstance(one, Channel)]  # not a resolver's
    return made, {f"{channel.producer_component_id}.{channel.output_key}" for channel in channels}


def test_every_output_is_read_by_a_node_or_by_somebody_who_is_named(config, paths) -> None:
    made, taken = wires(dags.train(config, paths))
    assert made - taken <= RESULTS
    assert {name.split(".")[0] for name in made} >= {"UserGen", "RetrievalTuner", "Pretraining", "FrozenEncoders"}


def test_what_is_not_configured_has_no_node(config_of, paths, tmp_path) -> None:
    ids = {node.id for node in dags.train(config_of(tmp_path), paths)}
    assert not ids & {"UserGen", "RetrievalTuner", "Pretraining", "FrozenEncoders"}
    assert "LastBlessedRanker" in ids
    cluster = dataclasses.replace(paths, knows_last_ranker=False)
    assert {node.id for node in dags.train(config_of(tmp_path), cluster)} == ids - {"LastBlessedRanker"}


def test_the_served_model_is_the_refitted_one_unless_refit_is_off(config, paths) -> None:
    """The judge sees the model of the trainer, the ranker's examples too; what is served is another with its index."""
    nodes = {node.id: node for node in dags.train(config, paths)}

    def producers(node: str) -> dict[str, str]:
        return {name: channel.producer_component_id for name, channel in nodes[node].inputs.items()}

    assert {producers("Recommender")[name] for name in ("model", "index")} == {"RetrievalRefit"}
    assert producers("RetrievalRefit")["blessing"] == "RetrievalEvaluator"
    for judge in ("RetrievalEvaluator", "RankingExamples"):
        assert producers(judge)["model"] == "RetrievalTrainer" and producers(judge)["index"] == "ItemIndex"
    nodes = {node.id: node for node in dags.train(dataclasses.replace(config, refit=False), paths)}
    assert "RetrievalRefit" not in nodes
    assert producers("Recommender")["model"] == "RetrievalTrainer" and producers("Recommender")["index"] == "ItemIndex"


def test_a_refresh_trains_nothing(config, paths) -> None:
    served = dags.ServedModelUris("model", "ranker", "blessing", ranker_is_blessed=True)
    nodes = dags.refresh(config, paths, served)
    assert not {node.id for node in nodes} & {"RetrievalTrainer", "RankingTrainer", "RetrievalTuner", "ItemTransform"}
    made, taken = wires(nodes)
    assert made - taken <= RESULTS | {"CatalogSchema.schema"}
    assert nodes[0].id == TRAINED_BEFORE, "a run that fails at its first table is known as a refresh"


def test_the_settings_of_a_node_arrive_as_they_were(config, paths) -> None:
    nodes = {node.id: node for node in dags.train(config, dataclasses.replace(paths, withdrawn=("i1", "i2")))}
    settings = from_json(RecommenderSettings, nodes["Recommender"].exec_properties["settings"])
    assert (settings.serving, settings.ranking, settings.withdrawn) == (config.serving, config.ranking, ("i1", "i2"))
    assert settings.data == config.data.only(*dags.RANKER_DATA)


def test_only_tables_statistics_and_interactions_run_before_the_gate_has_let_them(config, paths) -> None:
    """Interactions need no statistics, which on many events take half as long as they do; all that uses them waits."""
    nodes = {node.id: node for node in dags.train(config, paths)}

    def before(name: str) -> set[str]:
        taken = (channel.get_data_dependent_node_ids() for channel in nodes[name].inputs.values())
        needed = {other.id for other in nodes[name].upstream_nodes}.union(*taken)
        return {name}.union(*map(before, needed))

    free = {name for name in nodes if "DataGate" not in before(name)}
    tables = {
        f"{table}{step}" for table in ("Catalog", "Event") for step in ("Gen", "Statistics", "Schema", "Validator")
    }
    assert free - tables == {"Interactions", "UserGen"}
    assert before("DataGate") == tables | {"DataGate"} and "EventStatistics" not in before("Interactions")
