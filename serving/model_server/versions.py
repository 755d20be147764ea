"""The life of every model's versions: found, loaded, warmed up, available, retired, ended; and who gets which for a request."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
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

START_POLL_S = 0.2  # between two looks while the start waits for the first versions


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


class Manager:
    """Keeps the configured models' versions as their base paths and policies want them.

    A new version is loaded and warmed up before the old one goes, and the old one goes after its last request. One that
    fails to load is tried again when its files change, and every `load_retry_interval_s`.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._storage = Storage()
        self._batcher = Batcher(config.batching) if config.batching else None
        self._settings: dict[str, ModelSettings] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._settled: list[tuple[str, int, int]] = []
        self._lock = threading.Lock()  # guards states, counts and labels; held for moments
        self._change_lock = threading.Lock()  # one poll or reload at a time; held while loading
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Load every model's newest version, then watch the base paths in a thread.

        Raises ServingError where a newest version has not loaded after all retries, or a label's version is not there.
        """
        config = self._config
        give_up_s = time.monotonic() + config.max_num_load_retries * config.load_retry_interval_s
        with self._change_lock:
            self._settings = {settings.name: settings for settings in config.models}
            while True:
                problems = [problem for settings in config.models if (problem := self._refresh(settings, newest=True))]
                if not problems:
                    break
                if time.monotonic() >= give_up_s or self._stopping.wait(START_POLL_S):
                    raise ServingError(StatusCode.UNAVAILABLE, "; ".join(problems))
            self._assign_labels()
            self._settle()
        if config.file_system_poll_wait_s > 0:
            self._thread = threading.Thread(target=self._watch, name="version-watcher", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching and let go of all versions."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self._change_lock:
            for name in self._versions:
                self._retire(name, list(self._versions[name]))
        if self._batcher is not None:
            self._batcher.close()

    def reload(self, models: tuple[ModelSettings, ...]) -> None:
        """Serve exactly `models` from now on; returns when each has a version to serve.

        Raises ServingError: UNKNOWN naming the models that have none, FAILED_PRECONDITION for a label on a version that is not loaded.
        """
        with self._change_lock:
            removed = set(self._settings) - {settings.name for settings in models}
            self._settings = {settings.name: settings for settings in models}
            problems = [problem for settings in models if (problem := self._refresh(settings, retry=True))]
            for name in removed:
                self._retire(name, list(self._versions.get(name, ())))
            self._settle()
            if problems:
                raise ServingError(StatusCode.UNKNOWN, "Some models did not become available: " + "; ".join(problems))
            self._assign_labels()

    def poll(self) -> None:
        """Look at the base paths once: load what is new, retire what is no longer wanted."""
        with self._change_lock:
            for settings in self._settings.values():
                self._refresh(settings)
            self._settle()

    @contextlib.contextmanager
    def serving(self, spec: ModelSpec) -> Iterator[LoadedModel]:
        """The model that `spec` asks for, held loaded until the block ends.

        Raises ServingError: INVALID_ARGUMENT without a name or for an unknown label, NOT_FOUND for an unknown model or version.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        with self._lock:
            version = self._find(spec)
            version.in_flight += 1
            model = version.model
        assert model is not None, "an available version has its model"
        try:
            yield model
        finally:
            with self._lock:
                version.in_flight -= 1
                if version.in_flight == 0 and version.state == ModelVersionStatus.UNLOADING:
                    _end(version)

    def status(self, spec: ModelSpec) -> list[Version]:
        """The versions that `spec` asks for, newest first, ended ones included. Raises ServingError as `serving` does."""
        if not spec.name:
            raise invalid("Missing model name in request.")
        with self._lock:
            versions = self._versions.get(spec.name, {})
            number = self._version_number(spec)
            if number is not None:
                if number not in versions:
                    raise not_found(f"Could not find version {number} of model {spec.name}")
                return [versions[number]]
            if not versions:
                raise not_found(f"Could not find any versions of model {spec.name}")
            return [versions[key] for key in sorted(versions, reverse=True)]

    def metric_name(self, spec: ModelSpec) -> str:
        """The name under which a request on `spec` is counted: "" unless it is a model's, or clients could invent metrics."""
        return spec.name if spec.name in self._settings else ""

    def _version_number(self, spec: ModelSpec) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return spec.version.value
        if choice == "version_label":
            labels = self._labels.get(spec.name, {})
            if spec.name in self._settings and spec.version_label not in labels:
                raise invalid(
                    f"Unrecognized servable version label: {spec.version_label}; model {spec.name} has: {sorted(labels)}"
                )
            return labels.get(spec.version_label)
        return None

    def _find(self, spec: ModelSpec) -> Version:
        versions = self._versions.get(spec.name, {})
        number = self._version_number(spec)
        if number is None:
            number = max(
                (key for key, version in versions.items() if version.state == ModelVersionStatus.AVAILABLE),
                default=None,
            )
            if number is None:
                raise not_found(f"Servable not found for request: Latest({spec.name})")
        if number not in versions or versions[number].state != ModelVersionStatus.AVAILABLE:
            raise not_found(f"Servable not found for request: Specific({spec.name}, {number})")
        return versions[number]

    def _watch(self) -> None:
        while not self._stopping.wait(self._config.file_system_poll_wait_s):
            try:
                self.poll()
            except Exception:  # the watcher outlives whatever a file system does; the next look may be better
                log.exception("looking for new versions failed")

    def _refresh(self, settings: ModelSettings, newest: bool = False, retry: bool = False) -> str:
        """Bring one model to what its base path and policy want; what is missing, in words, "" where it can answer.

        newest: its newest wanted version must be available, not just any. retry: try failed versions now.
        """
        wanted = self._storage.wanted_versions(settings)
        if wanted is None:
            return f"{settings.name}: cannot list {settings.base_path}" if not self._available(settings.name) else ""
        for number, path in wanted.items():
            self._load(settings.name, number, path, retry)
        available = self._available(settings.name)
        if not wanted or available & wanted.keys():
            self._retire(settings.name, sorted(available - wanted.keys()))
        if not wanted:
            return f"{settings.name}: no version under {settings.base_path}"
        if available and (not newest or max(wanted) in available):
            return ""
        error = self._versions[settings.name][max(wanted)].error
        return f"{settings.name} version {max(wanted)}: {error.message if error else 'not loaded'}"

    def _load(self, name: str, number: int, path: str, retry: bool) -> None:
        version = self._versions.setdefault(name, {}).get(number)
        if version is not None:
            if version.state == ModelVersionStatus.AVAILABLE:
                self._warm_again(name, version, path)
            if version.state in (ModelVersionStatus.AVAILABLE, ModelVersionStatus.UNLOADING):
                return
            overdue = time.monotonic() - version.tried_s >= self._config.load_retry_interval_s
            if version.error is not None and not retry and not overdue and fingerprint(path) == version.tried_files:
                return
        files = fingerprint(path)
        fresh = Version(number, ModelVersionStatus.LOADING)
        with self._lock:
            self._versions[name][number] = fresh
        started_s = time.monotonic()
        try:
            model = load_model(name, number, path, self._batcher)
            fresh.warmed_by = requests_state(path)
            num_requests = warm_up(model, path)
            model = dataclasses.replace(model, is_one_of_many=self._config.num_processes > 1)
        except ServingError as error:
            log.warning("model %r version %d is not served: %s", name, number, error.message)
            with self._lock:
                fresh.state, fresh.error, fresh.tried_s, fresh.tried_files = (
                    ModelVersionStatus.END,
                    error,
                    time.monotonic(),
                    files,
                )
            return
        with self._lock:
            fresh.state, fresh.model = ModelVersionStatus.AVAILABLE, model
        log.info(
            "model %r version %d: loaded in %.1f s, %d warm-up requests",
            name,
            number,
            time.monotonic() - started_s,
            num_requests,
        )

    def _warm_again(self, name: str, version: Version, path: str) -> None:
        """Run the warm-up requests anew where their file has changed: a model may keep there what changed in it since it was exported."""
        state = requests_state(path)
        if state == version.warmed_by or version.model is None:
            return
        version.warmed_by = state
        model = dataclasses.replace(version.model, is_one_of_many=False)  # every process reads the file
        try:
            log.info(
                "model %r version %d: %d warm-up requests that have changed", name, version.number, warm_up(model, path)
            )
        except ServingError as error:
            log.warning("model %r version %d: changed warm-up requests: %s", name, version.number, error.message)

    def _retire(self, name: str, numbers: list[int]) -> None:
        """New requests no longer get these versions; each ends with its last request."""
        with self._lock:
            for number in numbers:
                version = self._versions[name][number]
                if version.state != ModelVersionStatus.AVAILABLE:
                    continue
                version.state = ModelVersionStatus.UNLOADING
                if version.in_flight == 0:
                    _end(version)
                log.info("model %r version %d: retired, %d requests under way", name, number, version.in_flight)

    def _available(self, name: str) -> set[int]:
        with self._lock:
            return {
                key
                for key, version in self._versions.get(name, {}).items()
                if version.state == ModelVersionStatus.AVAILABLE
            }

    def _assign_labels(self) -> None:
        for name, settings in self._settings.items():
            available = self._available(name)
            known = self._labels.get(name, {})
            for label, number in settings.labels.items():
                is_new = known.get(label, number) == number
                if number not in available and not (self._config.allow_labels_for_unavailable and is_new):
                    raise failed_precondition(
                        f"label {label!r} of model {name!r} names version {number}, which is not loaded"
                    )
        with self._lock:
            self._labels = {name: dict(settings.labels) for name, settings in self._settings.items()}

    def _settle(self) -> None:
        """Free what retired versions held, where any version's state has changed since the last time.

        What a model holds has cycles, so only the collector frees it; and a full collection, over TensorFlow's million objects,
        stops every thread for some 0.15 s: better here than in the middle of requests. Survivors are frozen: later collections skip them.
        """
        with self._lock:
            states = [
                (name, key, version.state)
                for name, versions in self._versions.items()
                for key, version in versions.items()
            ]
        if states != self._settled:
            self._settled = states
            gc.unfreeze()
            gc.collect()
            gc.freeze()


def _end(version: Version) -> None:
    version.state, version.model = ModelVersionStatus.END, None
