"""TFX node that reads a table into Examples, with what was left out beside them."""

import json

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples
from tfx.utils import io_utils

from components.account import check_account
from components.artifacts import prepare_examples, split_uri
from components.config import DataConfig
from components.data_gate import check_reject_shares
from components.rejects import describe_rejects, read_summary
from components.settings import from_json
from components.tables.columns import table_and_columns
from components.tables.examples import TableToExamples
from components.tables.inspection import inspect_table
from components.tables.raw import TableError
from zhiyin_artifacts import Rejects


@component(use_beam=True)
def TableGen(
    examples: OutputArtifact[Examples],
    rejects: OutputArtifact[Rejects],
    table: Parameter[str],
    data: Parameter[str],
    fingerprint: Parameter[str],
    code: Parameter[str],
    forgotten: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Read one of the three tables.

    table: catalogue, events or users.
    data: a DataConfig as JSON.
    fingerprint, code: of the table's files and of our code, for the cache.
    forgotten: file with the ids of people whose rows are rejects, one a line in JSON; none where empty.
    Raises TableError where the table cannot be used or nothing of it was accepted, AccountError where a row of it is
    neither accepted nor rejected, DataGateError where more than `max_reject_share` of the users are rejects; DataGate
    says so of the other tables.
    """
    settings = from_json(DataConfig, data)
    config, columns = table_and_columns(settings, table)
    facts = inspect_table(config, columns)
    prepare_examples(examples, ["train"])
    people = map(json.loads, io_utils.read_string_file(forgotten).splitlines()) if forgotten else ()
    with beam_pipeline as pipeline:
        _ = pipeline | TableToExamples(table, columns, facts, split_uri(examples, "train"), rejects.uri, [*people])
    summary = read_summary(rejects.uri)
    check_account(summary)
    if not summary["accepted"]:
        raise TableError(f"{config.path}: no row of the {table} table was accepted: {describe_rejects(rejects.uri)}")
    if table == "users":
        check_reject_shares({"users": rejects.uri}, settings.max_reject_share)
