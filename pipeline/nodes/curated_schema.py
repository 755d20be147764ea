"""TFX node that writes a table's schema, curated from the data contract, where SchemaGen would infer one."""

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Schema

from components.config import DataConfig
from components.settings import from_json
from components.transform import schemas


@component
def CuratedSchema(schema: OutputArtifact[Schema], table: Parameter[str], data: Parameter[str], code: Parameter[str]):
    """Write `schema.pbtxt` of a table.

    table: catalogue (the media features included) or events.
    data: DataConfig as JSON.
    code: fingerprint of our code, for the cache.
    """
    is_catalogue = table == "catalogue"
    made = schemas.catalogue_schema(from_json(DataConfig, data)) if is_catalogue else schemas.events_schema()
    schemas.write_schema(made, schema.uri)
