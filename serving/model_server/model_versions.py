"""The versions of one model: discovered, loaded, warmed up, available, retired, ended."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Iterator

from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.model_server.batching import Batcher
from serving.model_server.config import ModelSettings, ServerConfig
from serving.model_server.errors import ServingError, failed_precondition, invalid, not_found
from serving.model_server.loader import LoadedModel, load_model
from serving.model_server.storage import Storage, fingerprint
from serving.model_server.warmup import requests_state, warm_up

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Version:
    """One version of one model, from its first attempt to load on; it stays listed when it has ended."""

    number: int
    state: int = ModelVersionStatus.START
    error: ServingError | None = None  # why the last attempt to load failed
    model: LoadedModel | None = None  # while AVAILABLE or UNLOADING
    in_flight: int = 0  # requests that hold the model
    tried_s: float = 0.0  # monotonic time of the last failed attempt
    tried_files: tuple = ()  # what the folder held then
    warmed_by: tuple = ()  # the state of the file of warm-up requests that were run

    def end(self) -> None:
        """Let go of the model."""
        self.state, self.model = ModelVersionStatus.END, None


class ModelVersions:
    """Keeps one model's versions as its base path and its policy want them.

    Under the policy `latest`, those are the newest that load: a version that does not is tried again when its files
    change and every `load_retry_interval_s`, and older ones answer meanwhile. A new version is loaded and warmed up
    before the old one is retired. `refresh` and `retire_all` are for one thread at a time; the other methods may be
    called from any.
    """

    def __init__(
        self, settings: ModelSettings, config: ServerConfig, storage: Storage, batcher: Batcher | None
    ) -> None:
        self.settings = settings
        self.labels: dict[str, int] = {}
        self._config = config
        self._storage = storage
        self._batcher = batcher
        self._versions: dict[int, Version] = {}
        self._lock = threading.Lock()  # guards states and counts; held for moments

    def refresh(self, retry: bool = False) -> str:
        """Bring the versions to what base path and policy want; returns what is missing, "" where the model can answer.

        retry: whether to try failed versions now, whatever their files and the interval say.
        """
        name = self.settings.name
        candidates = self._storage.candidates(self.settings)
        if candidates is None:
            return "" if self.available() else f"{name}: cannot list {self.settings.base_path}"
        wanted: set[int] = set()
        for number, path in candidates.items():
            if self.settings.policy == "latest" and len(wanted) == self.settings.num_versions:
                break
            if self._is_available(number, path, retry):
                wanted.add(number)
        if wanted or not candidates:
            self._retire(self.available() - wanted)
        if self.available():
            return ""
        errors = [
            f"{name} version {number}: {error.message}" for number in candidates if (error := self._error(number))
        ]
        return "; ".join(errors) or f"{name}: no version to serve under {self.settings.base_path}"

    def retire_all(self) -> None:
        """Serve no version any more."""
        self.labels = {}
        self._retire(self.available())

    def available(self) -> set[int]:
        """The versions that answer."""
        with self._lock:
            return {number for number, one in self._versions.items() if one.state == ModelVersionStatus.AVAILABLE}

    def states(self) -> list[tuple[str, int, int]]:
        """Name, version and state of each version."""
        with self._lock:
            return [(self.settings.name, number, one.state) for number, one in self._versions.items()]

    def is_failing(self, number: int) -> bool:
        """Whether the last attempt to load a version failed; there will be another."""
        return self._error(number) is not None

    def listed(self, spec: ModelSpec) -> list[Version]:
        """The versions that `spec` asks for, newest first, ended ones included.

        Raises ServingError: INVALID_ARGUMENT for an unknown label, NOT_FOUND where there is none.
        """
        number = self._number(spec)
        with self._lock:
            if number is None:
                return [self._versions[key] for key in sorted(self._versions, reverse=True)]
            if number not in self._versions:
                raise not_found(f"Could not find version {number} of model {spec.name}")
            return [self._versions[number]]

    @contextlib.contextmanager
    def hold(self, spec: ModelSpec) -> Iterator[LoadedModel]:
        """The model of the version that `spec` asks for, held loaded until the block ends.

        Raises ServingError: INVALID_ARGUMENT for an unknown label, NOT_FOUND where no such version is available.
        """
        number = self._number(spec)
        with self._lock:
            version = self._find(number)
            version.in_flight += 1
            model = version.model
        assert model is not None, "an available version has its model"
        try:
            yield model
        finally:
            with self._lock:
                version.in_flight -= 1
                if version.in_flight == 0 and version.state == ModelVersionStatus.UNLOADING:
                    version.end()

    def _number(self, spec: ModelSpec) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return spec.version.value
        if choice == "version_label":
            labels = self.labels
            if spec.version_label not in labels:
                raise invalid(
                    f"Unrecognized servable version label: {spec.version_label}; "
                    f"model {spec.name} has: {sorted(labels)}"
                )
            return labels[spec.version_label]
        return None

    def _find(self, number: int | None) -> Version:
        available = {key: one for key, one in self._versions.items() if one.state == ModelVersionStatus.AVAILABLE}
        if number is None and available:
            return available[max(available)]
        if number not in available:
            asked = f"Latest({self.settings.name})" if number is None else f"Specific({self.settings.name}, {number})"
            raise not_found(f"Servable not found for request: {asked}")
        return available[number]

    def _error(self, number: int) -> ServingError | None:
        version = self._versions.get(number)
        return version.error if version is not None else None

    def _is_available(self, number: int, path: str, retry: bool) -> bool:
        """Whether a version answers, after an attempt to load it where it is time for one."""
        version = self._versions.get(number)
        if version is not None:
            if version.state == ModelVersionStatus.AVAILABLE:
                self._warm_again(version, path)
                return True
            if version.state == ModelVersionStatus.UNLOADING:
                return False
            overdue = time.monotonic() - version.tried_s >= self._config.load_retry_interval_s
            if version.error is not None and not retry and not overdue and _files(path) == version.tried_files:
                return False
        return self._load(number, path)

    def _load(self, number: int, path: str) -> bool:
        files, started_s = _files(path), time.monotonic()
        version = Version(number, ModelVersionStatus.LOADING)
        with self._lock:
            self._versions[number] = version
        try:
            model = self._loaded(version, path, files)
        except ServingError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  (whatever a loader raises is one version's fault: the others answer)
            failure = ServingError(StatusCode.INTERNAL, f"{path}: {type(error).__name__}: {error}")
        else:
            with self._lock:
                version.state, version.model = ModelVersionStatus.AVAILABLE, model
            log.info("model %r version %d: loaded in %.1f s", model.name, number, time.monotonic() - started_s)
            return True
        log.warning("model %r version %d is not served: %s", self.settings.name, number, failure.message)
        with self._lock:
            version.state, version.error = ModelVersionStatus.END, failure
            version.tried_s, version.tried_files = time.monotonic(), files
        return False

    def _loaded(self, version: Version, path: str, files: tuple) -> LoadedModel:
        options = self._config.servables
        model = load_model(self.settings.name, version.number, path, self._batcher, options)
        if fingerprint(path) != files[0]:
            raise ServingError(
                StatusCode.UNAVAILABLE, f"{path}: files changed while they were read; is a copy under way?"
            )
        version.warmed_by = requests_state(path)
        warm_up(model, path, options.warm_up_iterations)
        return dataclasses.replace(model, is_one_of_many=self._config.num_processes > 1)

    def _warm_again(self, version: Version, path: str) -> None:
        """Run the warm-up requests anew where their file has changed: a model's changes since its export are there."""
        state, iterations = requests_state(path), self._config.servables.warm_up_iterations
        if state == version.warmed_by or version.model is None or not iterations:
            return
        version.warmed_by = state
        model = dataclasses.replace(version.model, is_one_of_many=False)  # every process reads the file
        name = self.settings.name
        try:
            num_requests = warm_up(model, path, iterations)
            log.info("model %r version %d: %d warm-up requests that have changed", name, version.number, num_requests)
        except ServingError as error:
            log.warning("model %r version %d: changed warm-up requests: %s", name, version.number, error.message)

    def _retire(self, numbers: set[int]) -> None:
        """New requests no longer get these versions; each ends with its last request."""
        with self._lock:
            for number in sorted(numbers):
                version = self._versions[number]
                version.state = ModelVersionStatus.UNLOADING
                under_way = version.in_flight
                if not under_way:
                    version.end()
                log.info("model %r version %d: retired, %d requests under way", self.settings.name, number, under_way)


def _files(path: str) -> tuple:
    return fingerprint(path), requests_state(path)


def check_labels(model: ModelVersions, allow_unavailable: bool, at_start: bool) -> None:
    """Raise ServingError (FAILED_PRECONDITION) where a label of the settings names a version that is not loaded.

    allow_unavailable: whether a label may that is new or keeps its version.
    at_start: whether it may where that version, or all of the model, is still to come: such a model keeps nobody
    waiting.
    """
    available = model.available()
    for label, number in model.settings.labels.items():
        is_new = model.labels.get(label, number) == number
        is_awaited = not available or model.is_failing(number)
        if not (number in available or (allow_unavailable and is_new) or (at_start and is_awaited)):
            raise failed_precondition(
                f"label {label!r} of model {model.settings.name!r} names version {number}, which is not loaded"
            )
