"""One frozen configuration, composed of the rooms' own, from YAML."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from components.config import DataConfig, TableConfig
from components.files import without_magic
from components.pretrained_config import Encoders, PretrainedConfig
from components.settings import SettingsError, from_mapping, with_new_names
from pipeline.beam_engine import BeamConfig
from pipeline.drift.config import DriftConfig
from pipeline.yaml_settings import read_yaml
from serving.config import EvaluationConfig, ServingConfig
from serving.gateway.config import GatewayConfig
from trainer.config.engine import EngineConfig
from trainer.config.pretraining import PretrainingConfig
from trainer.config.privacy import TrainingPrivacyConfig, check_private
from trainer.config.ranking import RankingConfig, utility_weights
from trainer.config.retrieval import RetrievalConfig
from trainer.config.tuning import TuningConfig

TRACKERS = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}  # and the library of each
STORE_SOURCE = "store:"  # a table's path: the pipeline's own store, or store:URL
PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")  # what Kubeflow accepts


@dataclass(frozen=True)
class PipelineEngineConfig(EngineConfig):
    """Where the trainers compute (docs/training.md says which of it was tried on what), and the Beam nodes."""

    beam: BeamConfig = BeamConfig()  # docs/cluster.md
    nodes_at_once: int = 2  # that may run side by side on this machine; each in a process with a model of its own

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.nodes_at_once >= 1:
            raise ValueError(f"nodes_at_once: got {self.nodes_at_once}, expected 1 or more")

    @property
    def training(self) -> EngineConfig:
        """What a trainer knows of it, and its cache key."""
        return EngineConfig(**{each.name: getattr(self, each.name) for each in fields(EngineConfig)})


@dataclass(frozen=True)
class DeployConfig:
    """Where the compiled pipeline runs; needed by `compile` alone."""

    image: str = ""  # container image with this project and TFX in it
    pipeline_root: str = ""  # gs://bucket/folder for the artifacts
    serving_root: str = ""  # gs://bucket/folder that TF Serving reads versions from
    machine_cpus: float = 8.0  # of the training node
    machine_memory_gib: float = 32.0  # likewise
    accelerator: str = ""  # e.g. NVIDIA_TESLA_T4; none where empty
    accelerator_count: int = 0  # of them
    beam_args: tuple[str, ...] = ()  # e.g. --runner=DataflowRunner, --project=...


@dataclass(frozen=True)
class Config:
    """Everything that one pipeline needs to know."""

    name: str  # of the pipeline and of the served model: lower case letters, digits, dashes
    data: DataConfig
    evaluation: EvaluationConfig  # no default: what blesses a model is for its owner to say
    encoders: tuple[
        PretrainedConfig, ...
    ] = ()  # pretrained models that add an embedding to the items; docs/encoders.md
    work_dir: str = ""  # artifacts, metadata, served versions; runs/<name> where empty
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    pretraining: PretrainingConfig | None = (
        None  # of the content encoders on the catalogue alone; the node is there where this is
    )
    refit: bool = True  # whether the served retrieval model is the judged one trained again on train, eval and test
    ranking: RankingConfig = field(default_factory=RankingConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    tuning: TuningConfig | None = None  # with it, a RetrievalTuner stands before the trainer
    engine: PipelineEngineConfig = field(default_factory=PipelineEngineConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)  # the online service; docs/service.md
    privacy: TrainingPrivacyConfig = TrainingPrivacyConfig()  # what training may learn of a person; docs/privacy.md
    drift: DriftConfig = field(default_factory=DriftConfig)  # what is told of a run whose world has moved
    tracking: str = ""  # tensorboard, mlflow or wandb: a run's numbers go into tracking/ of the work folder too
    deploy: DeployConfig = field(default_factory=DeployConfig)
    ground_truth: str = ""  # of a synthetic world (`zhiyin data demo` writes it): adds the oracle's rows to the report

    def __post_init__(self) -> None:
        if not PIPELINE_NAME.fullmatch(self.name):
            raise ValueError(
                f"name: got {self.name!r}, expected {PIPELINE_NAME.pattern} "
                "(lower case letters, digits and dashes, 128 at most)"
            )

        if self.tracking not in ("", *TRACKERS):
            raise ValueError(f"tracking: got {self.tracking!r}, expected {', '.join(TRACKERS)} or nothing")
        taken = sorted({encoder.name for encoder in self.encoders} & set(self.data.embeddings))
        if taken:
            raise ValueError(f"encoders: the catalogue has an embedding named {', '.join(taken)} already")
        if self.data.pieces:
            raise ValueError("data.pieces: not a setting of its own; a tuned encoder in `encoders` sets it")
        Encoders(self.encoders)  # names a name that comes twice
        utility_weights(self.data.event_rules, self.ranking)  # names an objective without a rule

        if self.privacy.differential:
            check_private(self.retrieval, self.engine)
            if self.tuning:
                raise ValueError("privacy.differential: a tuner looks at people at each trial; expected no tuning")
        if self.tuning:
            self.tuning.space_of(self.retrieval)

    @property
    def item_data(self) -> DataConfig:
        """`data` as the nodes after FrozenEncoders see it: what encoders add are columns like others."""
        encoders = Encoders(self.encoders)
        pieces = {encoder.name: encoder.tune.tokens for encoder in encoders.tuned if encoder.tune}
        return replace(self.data, embeddings={**self.data.embeddings, **encoders.embeddings}, pieces=pieces)

    @property
    def work_path(self) -> Path:
        """The absolute local folder of this pipeline's runs, under a name that no library takes for a pattern."""
        return without_magic(Path(self.work_dir or f"runs/{self.name}").absolute())

    def served_name(self, kind: str) -> str:
        """The model name of a variant: the pipeline's own for `exact`, which any TensorFlow Serving loads."""
        return self.name if kind == "exact" else f"{self.name}-{kind}"

    @property
    def serving_path(self) -> Path:
        """The folder that holds one folder of versions a served model."""
        return self.work_path / "serving"


def load(path: Path) -> Config:
    """The configuration in a YAML file. Relative paths in it are relative to the current directory.

    Raises SettingsError with one line that says what to mend.
    """
    mapping = read_yaml(path)
    try:
        if not isinstance(mapping, dict):
            raise SettingsError(f"got {mapping!r}, expected a mapping of settings")
        mapping, notices = with_new_names(mapping)
        sys.stderr.writelines(f"zhiyin: {path}: {notice}\n" for notice in notices)
        return _with_home(from_mapping(Config, mapping))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def _with_home(config: Config) -> Config:
    """The configuration with a leading ~ of its local paths replaced by the home folder."""
    return replace(_with_paths(config, expanded), work_dir=expanded(config.work_dir))


def localised(config: Config) -> Config:
    """The configuration with local paths made absolute, so that a node finds them wherever it runs on this machine."""
    return _with_paths(config, _absolute)


def _with_paths(config: Config, change: Callable[[str], str]) -> Config:
    """The configuration with each path that its nodes read changed."""

    def of_table(table: TableConfig) -> TableConfig:
        return replace(table, path=change(table.path))

    data = config.data
    return replace(
        config,
        data=replace(
            data,
            catalogue=of_table(data.catalogue),
            events=of_table(data.events),
            users=of_table(data.users) if data.users else None,
            exposures=change(data.exposures),
            media_root=change(data.media_root),
            media_roots=tuple(map(change, data.media_roots)),
        ),
        encoders=tuple(replace(encoder, path=change(encoder.path)) for encoder in config.encoders),
        ground_truth=change(config.ground_truth),
    )


def is_remote(path: str) -> bool:
    """Whether a path names a file system other than this machine's, like gs://."""
    return "://" in path


def expanded(path: str) -> str:
    """A path with a leading ~ replaced by the home folder; ~somebody stays, it may be a file's name."""
    return str(Path(path).expanduser()) if path == "~" or path.startswith("~/") else path


def _absolute(path: str) -> str:
    is_place = path and not is_remote(path) and not path.startswith(STORE_SOURCE)
    return str(Path(path).absolute()) if is_place else path
