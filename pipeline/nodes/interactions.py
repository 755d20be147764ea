"""TFX node that groups events by user and splits each user's sequence into train, eval and test."""

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from components.artifacts import prepare_examples, split_uri
from components.config import DataConfig
from components.data_gate import DataGateError, check_reject_shares
from components.events.splits import SPLITS
from components.events.transforms import EVENT_TYPES, ITEM_TYPES, EventsToSequences, WriteSequences
from components.example_tables import ReadTables
from components.rejects import describe_rejects, read_summary
from components.settings import from_json
from zhiyin_artifacts import Rejects


@component(use_beam=True)
def Interactions(
    events: InputArtifact[Examples],
    catalogue: InputArtifact[Examples],
    event_rejects: InputArtifact[Rejects],
    catalogue_rejects: InputArtifact[Rejects],
    sequences: OutputArtifact[Examples],
    rejects: OutputArtifact[Rejects],
    data: Parameter[str],
    code: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Build each user's sequences, split as `data.split` says.

    data: a DataConfig as JSON. code: fingerprint of our code, for the cache.
    Raises DataGateError where more than `max_reject_share` of a table's rows or of the events (unknown items, say) are
    rejects, or where train or test is empty.
    """
    settings = from_json(DataConfig, data)
    tables = {"catalogue": catalogue_rejects.uri, "events": event_rejects.uri}
    check_reject_shares(tables, settings.max_reject_share)  # DataGate waits for statistics, this node does not
    prepare_examples(sequences, SPLITS)
    with beam_pipeline as pipeline:
        inputs = {
            "events": pipeline | "ReadEvents" >> ReadTables(split_uri(events, "train"), EVENT_TYPES),
            "catalogue": pipeline | "ReadCatalogue" >> ReadTables(split_uri(catalogue, "train"), ITEM_TYPES),
        }
        uris: dict[str, str] = {name: split_uri(sequences, name) for name in SPLITS}
        _ = inputs | EventsToSequences(settings) | WriteSequences(uris, rejects.uri)
    check_reject_shares({"interactions": rejects.uri}, settings.max_reject_share)
    notes = read_summary(rejects.uri)["notes"]
    for name in ("train", "test"):
        if not notes.get(f"sequences_{name}"):
            raise DataGateError(
                f"interactions: split.kind {settings.split.kind!r} leaves {name} empty; {describe_rejects(rejects.uri)}"
            )
