"""The TFX node ServingValidator: the model server must answer recorded requests as the models do in process."""

from absl import logging
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import InfraBlessing, Model
from tfx.utils import path_utils


@component
def ServingValidator(
    exact: InputArtifact[Model],
    scann: InputArtifact[Model],
    blessing: OutputArtifact[InfraBlessing],
    code: Parameter[str],
) -> None:
    """Serve both models, replay what they have recorded, and write TFX's infrastructure blessing.

    A server that cannot start or does not answer is no judgement, which the cache would keep: the node fails.
    code: fingerprint of our code, for the cache.
    """
    from serving.export.replay import ReplayError
    from serving.export.validation import validate

    models = {"exact": path_utils.serving_model_path(exact.uri), "scann": path_utils.serving_model_path(scann.uri)}
    try:
        compared = validate(models)
    except ReplayError as error:
        filename, is_blessed, reason = "INFRA_NOT_BLESSED", 0, str(error)
    else:
        filename, is_blessed, reason = "INFRA_BLESSED", 1, f"{sum(compared.values())} answers are the recorded ones"
    fileio.makedirs(blessing.uri)
    with fileio.open(f"{blessing.uri}/{filename}", "w") as file:
        file.write("")
    blessing.set_int_custom_property("blessed", is_blessed)
    blessing.set_string_custom_property("reason", reason)
    logging.info("serving: %s", reason)
