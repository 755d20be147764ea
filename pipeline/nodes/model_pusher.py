"""TFX's Pusher, with versions that are complete before a server can see them, and larger than every one before."""

import time

from tfx.components import Pusher
from tfx.components.pusher import executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

_INCOMING = ".incoming"  # no version: servers look at plain integers only


class ModelPusherExecutor(executor.Executor):
    """Lets TFX copy into a hidden folder beside the versions, then renames the copy to the next version."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination)
        base = destination.filesystem.base_directory
        incoming = f"{base}/{_INCOMING}"
        if fileio.exists(incoming):
            fileio.rmtree(incoming)  # left by a run that was cut off
        destination.filesystem.base_directory = incoming
        hidden = exec_properties | {
            standard_component_specs.PUSH_DESTINATION_KEY: proto_utils.proto_to_json(destination)
        }
        super().Do(input_dict, output_dict, hidden)
        pushed = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        if not pushed.get_int_custom_property("pushed"):
            return
        version = str(next_version(fileio.listdir(base)))
        fileio.rename(pushed.get_string_custom_property("pushed_destination"), f"{base}/{version}")
        fileio.rmtree(incoming)
        self._MarkPushed(pushed, pushed_destination=f"{base}/{version}", pushed_version=version)


def next_version(names: list[str]) -> int:
    """The time in seconds, or one more than the largest version there is: a push is always the newest.

    names: of the versions' folders, with or without a slash; names that are no numbers do not count.
    """
    versions = [int(name) for name in (name.rstrip("/") for name in names) if name.isascii() and name.isdigit()]
    return max([int(time.time()), *(version + 1 for version in versions)])


class ModelPusher(Pusher):
    """As TFX's Pusher: `model`, `model_blessing`, `infra_blessing`, `push_destination` -> `pushed_model`."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ModelPusherExecutor)
