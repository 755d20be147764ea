"""The artifact types that are ours alone.

One top-level module, no declared properties: Kubeflow accepts a custom type only when its TYPE_NAME is an importable
`module.Class` with a single dot, and refuses declared properties (docs/decisions/0005-custom-artifacts.md).
"""

from tfx.types.artifact import Artifact


class Rejects(Artifact):
    """Records that were left out, one JSON object a line: stage, source, line or item id, reason, detail."""

    TYPE_NAME = "zhiyin_artifacts.Rejects"


class ItemIndex(Artifact):
    """Item vectors, their ids and the index report: `vectors.npy`, `item_ids.json`, `report.json`."""

    TYPE_NAME = "zhiyin_artifacts.ItemIndex"


class EncoderWeights(Artifact):
    """Pretrained weights of the content encoders: `weights.npz`, an array for each weight, and `report.json`."""

    TYPE_NAME = "zhiyin_artifacts.EncoderWeights"
