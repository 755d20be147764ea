"""TFX node that stops a run on bad data: anomalies against the schema, or too many rejects."""

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies

from components.data_gate import DataGateError, anomalies_of, excess_of
from zhiyin_artifacts import Rejects


@component
def DataGate(
    catalogue_anomalies: InputArtifact[ExampleAnomalies],
    event_anomalies: InputArtifact[ExampleAnomalies],
    catalogue_rejects: InputArtifact[Rejects],
    event_rejects: InputArtifact[Rejects],
    max_reject_share: Parameter[float],
    code: Parameter[str],
):
    """Raise DataGateError with everything that is wrong, else do nothing.

    max_reject_share: of a table's rows; 0 is strict. code: fingerprint of our code, for the cache.
    """
    problems = [
        *excess_of("catalogue", catalogue_rejects.uri, max_reject_share),
        *excess_of("events", event_rejects.uri, max_reject_share),
        *anomalies_of("catalogue", catalogue_anomalies),
        *anomalies_of("events", event_anomalies),
    ]
    if problems:
        raise DataGateError("the data does not pass:\n" + "\n".join(problems))
