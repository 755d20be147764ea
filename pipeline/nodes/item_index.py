"""The TFX node ItemIndex: a retrieval model and the transformed items in, a measured index over all of them out."""

import json

import apache_beam as beam
import tensorflow as tf
from absl import logging
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

import zhiyin_artifacts
from components.settings import from_json
from serving.config import ServingConfig
from serving.offline.item_vectors import WriteItemVectors, read_item_vectors


@component(use_beam=True)
def ItemIndex(
    model: InputArtifact[Model],
    items: InputArtifact[Examples],
    sequences: InputArtifact[Examples],
    index: OutputArtifact[zhiyin_artifacts.ItemIndex],
    serving: Parameter[str],
    history_length: Parameter[int],
    code: Parameter[str],
    signature: Parameter[str] = "item_tower",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Encode every item, build the index and measure it on the users of the split `train`.

    items: transformed for the signature `item_tower`, item examples for `encode_item`. serving: a ServingConfig as
    JSON.
    history_length: as DataConfig has it.
    code: fingerprint of our code, for the cache.
    Raises RecallError where the index finds too few of the nearest items.
    """
    from serving.index import save_views
    from serving.offline.build_index import build_item_index

    model_path = path_utils.serving_model_path(model.uri)
    encoded = f"{index.uri}/encoded"
    with beam_pipeline as pipeline:
        read = beam.io.ReadFromTFRecord(f"{artifact_utils.get_split_uri([items], 'train')}/*")
        _ = pipeline | "ReadItems" >> read | WriteItemVectors(model_path, f"{encoded}/part", signature)
    item_ids, views = read_item_vectors(f"{encoded}/part")
    tf.io.gfile.rmtree(encoded)
    users = artifact_utils.get_split_uri([sequences], "train")
    settings = from_json(ServingConfig, serving)
    report = build_item_index(model_path, item_ids, views["vector"], users, index.uri, settings, int(history_length))
    save_views(index.uri, views)
    for k, recall in report["recall"].items():
        index.set_float_custom_property(f"recall_{k}", recall)
    logging.info("index of %d items: %s", len(item_ids), json.dumps(report["recall"]))
