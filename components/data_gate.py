"""What stops a run: a table with too many rejects, or examples that contradict the curated schema."""

from __future__ import annotations

from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import io_utils

from components.rejects import FORGOTTEN, describe_rejects, read_summary


class DataGateError(ValueError):
    """Data that must not be trained on: each line names a table, a feature or reason, the rule and the share."""


def excess_of(table: str, rejects_uri: str, max_reject_share: float) -> list[str]:
    """A line if more than `max_reject_share` of a table's rows were rejected: shares, reasons, the first records.

    Rows of people who were forgotten do not count: there is no fault in them.
    """
    summary = read_summary(rejects_uri)
    forgotten = summary["rejects"].get(FORGOTTEN, 0)
    rejected = sum(summary["rejects"].values()) - forgotten
    share = rejected / max(summary["rows"] - forgotten, 1)
    if share <= max_reject_share:
        return []
    limit = f"max_reject_share is {max_reject_share:.1%}"
    return [f"{table}: {share:.1%} of the rows are rejects, {limit}: {describe_rejects(rejects_uri)}"]


def check_reject_shares(rejects_uris: Mapping[str, str], max_reject_share: float) -> None:
    """Raise DataGateError with the lines of `excess_of` for all tables (table -> its rejects), where there are any."""
    problems = [line for table, uri in rejects_uris.items() for line in excess_of(table, uri, max_reject_share)]
    if problems:
        raise DataGateError("\n".join(problems))


def anomalies_of(table: str, anomalies: Artifact) -> list[str]:
    """A line for each feature that contradicts the schema, from the artifact of ExampleValidator."""
    problems = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        uri = artifact_utils.get_split_uri([anomalies], split)
        found = anomalies_pb2.Anomalies.FromString(io_utils.read_bytes_file(f"{uri}/SchemaDiff.pb"))
        if found.data_missing:
            problems.append(f"{table}: {split}: no examples")
        for name, info in sorted(found.anomaly_info.items()):
            rules = "; ".join(f"{reason.short_description}: {reason.description}" for reason in info.reason)
            problems.append(f"{table}: {split}: feature {name}: {rules or info.description}")
    return problems
