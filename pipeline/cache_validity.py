"""Whether a node's cached outputs still hold where they hang on more than the cache's key: a pusher's on what is newest
in its folder, a verdict on which model was blessed last.

The configuration may have gone back to an earlier model: then it is judged, and pushed, anew.
"""

from __future__ import annotations

from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from tfx.components.evaluator import constants
from tfx.orchestration import metadata
from tfx.orchestration.portable import inputs_utils
from tfx.orchestration.portable.mlmd import execution_lib
from tfx.proto import pusher_pb2
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import Artifact
from tfx.types import standard_component_specs as specs
from tfx.utils import path_utils, proto_utils

from pipeline.versions import versions_in
from serving.offline.blessing import read_last

_BLESSED_DIR = "blessed_dir"  # parameter of a node that remembers the last blessed model


def holds(node: pipeline_pb2.PipelineNode, connection: metadata_store_pb2.ConnectionConfig) -> bool:
    """Whether a cached execution of the node may stand for it now."""
    parameters = node.parameters.parameters
    if specs.PUSHED_MODEL_KEY in node.outputs.outputs:
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(parameters[specs.PUSH_DESTINATION_KEY].field_value.string_value, destination)
        newest = versions_in(Path(destination.filesystem.base_directory))[-1:]
        pushed = _earlier(node, specs.PUSHED_MODEL_KEY, connection)[1]
        return newest in [[Path(one.get_string_custom_property("pushed_destination"))] for one in pushed]
    if _BLESSED_DIR in parameters:
        last = read_last(parameters[_BLESSED_DIR].field_value.string_value)
        model, verdicts = _earlier(node, specs.BLESSING_KEY, connection)
        if last is None or not verdicts:
            return False
        newest_verdict = max(verdicts, key=lambda verdict: verdict.id)
        is_blessed = bool(newest_verdict.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY))
        return is_blessed == (last.model == path_utils.serving_model_path(model.uri))
    return True


def _earlier(
    node: pipeline_pb2.PipelineNode, output: str, connection: metadata_store_pb2.ConnectionConfig
) -> tuple[Artifact, list[Artifact]]:
    """The model that a node is given, and what nodes have made of it as this output."""
    with metadata.Metadata(connection) as handle:
        inputs = inputs_utils.resolve_input_artifacts(pipeline_node=node, metadata_handle=handle)
        assert isinstance(inputs, inputs_utils.Trigger)
        (model,) = inputs[0][specs.MODEL_KEY]
        events = handle.store.get_events_by_artifact_ids([model.id])
        takers = [execution_lib.get_output_artifacts(handle, event.execution_id) for event in events]
    return model, [artifact for outputs in takers for artifact in outputs.get(output, ())]
