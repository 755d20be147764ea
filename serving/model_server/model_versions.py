"""The versions of one model: discovered, loaded, warmed up, available, retired, ended."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator

from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.model_server.batching import Batcher
from serving.model_server.config import ModelSettings, ServerConfig
from serving.model_server.errors import ServingError, failed_precondition, invalid, not_found
from serving.model_server.loader import LoadedModel, load_model
from serving.model_server.storage import Storage, fingerprint
from serving.model_server.warmup import replay_changes, requests_state, warm_up

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
    files: tuple = ()  # what the folder held at the last attempt
    warmed_by: tuple = ()  # the state of the file of warm-up requests whose changes are the model's
    not_replayed: str = ""  # why the changes that the file holds now are not

    def end(self) -> None:
        """Let go of the model."""
        self.state, self.model = ModelVersionStatus.END, None


class ModelVersions:
    """Keeps one model's versions as its base path and its policy want them.

    Under the policy `latest`, those are the newest that load: a version that does not is tried again when its files
    change and every `load_retry_interval_s`, and older ones answer meanwhile. A new version is loaded and warmed up
    before the old one is retired. `load`, `check_labels`, `retire` and `retire_all` are for one thread at a time; the
    other methods may be called from any.
    """

    def __init__(
        self,
        settings: ModelSettings,
        config: ServerConfig,
        storage: Storage,
        batcher: Batcher | None,
        on_last_request: Callable[[], None],
    ) -> None:
        """on_last_request: called, by its thread, when a retired version has answered the last one."""
        self.settings = settings
        self.labels: dict[str, int] = {}
        self._config = config
        self._storage = storage
        self._batcher = batcher
        self._on_last_request = on_last_request
        self._wanted: set[int] = set()  # by base path and policy, as `load` found them
        self._versions: dict[int, Version] = {}
        self._lock = threading.Lock()  # guards states and counts; held for moments

    def load(self, retry: bool) -> str:
        """Load the versions that base path and policy want; returns what is missing, "" where the model can answer.

        Those that are not wanted any more answer until `retire`.
        retry: whether to try failed versions now, whatever their files and the interval say.
        """
        name = self.settings.name
        self._wanted = self.available()  # while nothing better is known
        candidates = self._storage.candidates(self.settings)
        if candidates is None:
            return "" if self._wanted else f"{name}: cannot list {self.settings.base_path}"
        wanted: set[int] = set()
        for number, path in candidates.items():
            if self.settings.policy == "latest" and len(wanted) == self.settings.num_versions:
                break
            if self._is_available(number, path, retry):
                wanted.add(number)
        if wanted or not candidates:
            self._wanted = wanted
        if self._wanted:
            return ""
        errors = [
            f"{name} version {number}: {error.message}" for number in candidates if (error := self._error(number))
        ]
        return "; ".join(errors) or f"{name}: no version to serve under {self.settings.base_path}"

    def check_labels(self, allow_unavailable: bool, at_start: bool) -> None:
        """Raise ServingError (FAILED_PRECONDITION) where a label of the settings names a version that will not answer.

        It may while the model has no version at all: such a model keeps nobody waiting.
        allow_unavailable: whether a label may that is new or keeps its version.
        at_start: whether it may where that version failed to load and is tried again.
        """
        if not self._wanted:
            return
        for label, number in self.settings.labels.items():
            is_new = self.labels.get(label, number) == number
            is_awaited = at_start and self._error(number) is not None
            if not (number in self._wanted or is_awaited or (allow_unavailable and is_new)):
                raise failed_precondition(
                    f"label {label!r} of model {self.settings.name!r} names version {number}, which is not loaded"
                )

    def retire(self) -> None:
        """Serve no longer what `load` found not wanted."""
        self._retire(self.available() - self._wanted)

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
                is_last = version.in_flight == 0 and version.state == ModelVersionStatus.UNLOADING
                if is_last:
                    version.end()
            if is_last:
                self._on_last_request()

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
                self._replay_changes(version, path)
                return True
            if version.state == ModelVersionStatus.UNLOADING:
                return False
            overdue = time.monotonic() - version.tried_s >= self._config.load_retry_interval_s
            if version.error is not None and not retry and not overdue and _files(path) == version.files:
                return False
        return self._load(number, path)

    def _load(self, number: int, path: str) -> bool:
        started_s = time.monotonic()
        version = Version(number, ModelVersionStatus.LOADING)
        with self._lock:
            self._versions[number] = version
        try:
            version.files = _files(path)
            model = self._loaded(version, path)
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
            version.state, version.error, version.tried_s = ModelVersionStatus.END, failure, time.monotonic()
        return False

    def _loaded(self, version: Version, path: str) -> LoadedModel:
        options = self._config.servables
        model = load_model(self.settings.name, version.number, path, self._batcher, options)
        if fingerprint(path) != version.files[0]:
            raise ServingError(
                StatusCode.UNAVAILABLE, f"{path}: files changed while they were read; is a copy under way?"
            )
        version.warmed_by = requests_state(path)
        warm_up(model, path, options.warm_up_iterations)
        return dataclasses.replace(model, is_one_of_many=self._config.num_processes > 1)

    def _replay_changes(self, version: Version, path: str) -> None:
        """Make the changes among the warm-up requests where their file is another: the model's since its export.

        What fails is tried again at the next look.
        """
        state = requests_state(path)
        if state == version.warmed_by or version.model is None or not self._config.servables.warm_up_iterations:
            return
        model = dataclasses.replace(version.model, is_one_of_many=False)  # every process reads the file
        try:
            if fingerprint(path) != version.files[0]:
                raise failed_precondition(f"{path} is not what was loaded: its changes are for another model")
            num_changes = replay_changes(model, path)
        except ServingError as error:
            if error.message != version.not_replayed:
                version.not_replayed = error.message
                log.warning("%r version %d: changed warm-up requests: %s", model.name, model.version, error.message)
        else:
            version.warmed_by, version.not_replayed = state, ""
            log.info("model %r version %d: %d changes by warm-up requests", model.name, model.version, num_changes)

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
