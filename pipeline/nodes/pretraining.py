"""The TFX node Pretraining: the transformed items in, encoders that have seen them without any behaviour out."""

from absl import logging
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, TransformGraph

import zhiyin_artifacts
from components.config import DataConfig
from components.settings import from_json
from trainer.config.encoder import EncoderConfig
from trainer.config.pretraining import PretrainingConfig


@component
def Pretraining(
    items: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    weights: OutputArtifact[zhiyin_artifacts.EncoderWeights],
    data: Parameter[str],
    encoder: Parameter[str],
    pretraining: Parameter[str],
    code: Parameter[str],
) -> None:
    """Write `weights.npz` and `report.json`.

    data, encoder, pretraining: DataConfig, EncoderConfig and PretrainingConfig as JSON. code: fingerprint of our code,
    for the cache.
    """
    from trainer.content.run_pretraining import pretrain_encoders

    report = pretrain_encoders(
        artifact_utils.get_split_uri([items], "train"),
        transform_graph.uri,
        weights.uri,
        from_json(DataConfig, data),
        from_json(EncoderConfig, encoder),
        from_json(PretrainingConfig, pretraining),
    )
    for modality, numbers in report.items():
        for name in ("before", "after"):
            if numbers[name] is not None:
                weights.set_float_custom_property(f"{modality}_{name}", numbers[name])
        logging.info("pretraining of %s: held-out error %s -> %s", modality, numbers["before"], numbers["after"])
