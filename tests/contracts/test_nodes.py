"""Every node of the DAG is there for somebody: what it writes is read, and what it takes is given."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from tfx.dsl.components.common.resolver import Resolver

from pipeline import config as configuration
from pipeline import dags

ROOT = Path(__file__).parents[2]
FOR_PEOPLE = {  # read from disk by the report, the screen or a later run, not by a node
    "rejects", "model_run", "evaluation", "pushed_model", "tuner_results", "updated_analyzer_cache",
    "pre_transform_schema", "pre_transform_stats", "post_transform_schema", "post_transform_stats",
    "post_transform_anomalies",
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def nodes(request):
    return dags.train(configuration.load(request.param), run_paths())


def run_paths():
    return dags.RunPaths(**{field.name: "x" for field in fields(dags.RunPaths) if field.default is MISSING})


def test_what_a_node_writes_is_read_by_a_node_or_a_person(nodes) -> None:
    read = {id(channel) for node in nodes for group in node.inputs.values() for channel in _channels(group)}
    unread = [
        f"{node.id}.{name}"
        for node in nodes
        if not isinstance(node, Resolver)  # hands its inputs through
        for name, channel in node.outputs.items()
        if id(channel) not in read and name not in FOR_PEOPLE
    ]
    assert not unread


def test_the_nodes_stand_in_the_order_in_which_the_data_flows(nodes) -> None:
    seen: set[str] = set()
    for node in nodes:
        for group in node.inputs.values():
            for channel in _channels(group):
                producer = getattr(channel, "producer_component_id", None)
                assert not producer or producer in seen or node.id.startswith("Latest"), f"{node.id} reads {producer}"
        seen.add(node.id)


def _channels(group):
    return [group, *getattr(group, "channels", [])]
