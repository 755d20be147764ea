"""TFX's Trainer with more inputs beside the sequences: items, and, where there are, users and encoders."""

from typing import Any

from tfx import types
from tfx.components.trainer import executor
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import trainer_pb2 as proto
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils

import zhiyin_artifacts

ITEMS_KEY = "items"
ITEM_EXAMPLES_KEY = "item_examples"
USERS_KEY = "users"
WEIGHTS_KEY = "encoder_weights"


class RetrievalTrainerSpec(standard_component_specs.TrainerSpec):
    """TrainerSpec and the channels `items` and `item_examples`, which are not transformed and hold the dates.

    `users` is there where a tower reads the users table, `encoder_weights` where encoders are pretrained.
    """

    INPUTS = {
        **standard_component_specs.TrainerSpec.INPUTS,
        ITEMS_KEY: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        ITEM_EXAMPLES_KEY: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        USERS_KEY: component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        WEIGHTS_KEY: component_spec.ChannelParameter(type=zhiyin_artifacts.EncoderWeights, optional=True),
    }


class RetrievalTrainerExecutor(executor.GenericExecutor):
    """Hands the locations of its further inputs to `run_fn` in `custom_config`, under the names of their channels."""

    def _GetFnArgs(self, input_dict, output_dict, exec_properties):
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        places = {
            key: artifact_utils.get_split_uri(input_dict[key], "train")
            for key in (ITEMS_KEY, ITEM_EXAMPLES_KEY, USERS_KEY)
            if input_dict.get(key)
        }
        if input_dict.get(WEIGHTS_KEY):
            places[WEIGHTS_KEY] = artifact_utils.get_single_uri(input_dict[WEIGHTS_KEY])
        fn_args.custom_config = {**(fn_args.custom_config or {}), **places}
        return fn_args


class RetrievalTrainer(base_component.BaseComponent):
    """Trains the two towers: sequences (splits train and eval) and transformed items -> `model`, `model_run`."""

    SPEC_CLASS = RetrievalTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RetrievalTrainerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        items: types.BaseChannel,
        item_examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        run_fn: str,
        custom_config: dict[str, Any],
        train_args: proto.TrainArgs | None = None,
        eval_args: proto.EvalArgs | None = None,
        hyperparameters: types.BaseChannel | None = None,
        users: types.BaseChannel | None = None,
        encoder_weights: types.BaseChannel | None = None,
    ):
        """run_fn: dotted path of a function of FnArgs. custom_config: JSON-able, part of the cache key."""
        super().__init__(
            spec=RetrievalTrainerSpec(
                examples=examples,
                items=items,
                item_examples=item_examples,
                transform_graph=transform_graph,
                hyperparameters=hyperparameters,
                users=users,
                encoder_weights=encoder_weights,
                train_args=train_args or proto.TrainArgs(),
                eval_args=eval_args or proto.EvalArgs(),
                run_fn=run_fn,
                custom_config=json_utils.dumps(custom_config),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
            )
        )
