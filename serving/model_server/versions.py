"""Manages all configured models: which version a request gets, and how the set changes while the server runs."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from grpc import StatusCode
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.model_server.batching import Batcher
from serving.model_server.config import ModelSettings, ServerConfig, read_model_config
from serving.model_server.errors import ServingError, invalid, not_found
from serving.model_server.loader import LoadedModel
from serving.model_server.model_versions import ModelVersions, Version, check_labels
from serving.model_server.storage import Storage

log = logging.getLogger(__name__)

RETRY_POLL_S = 0.2  # between two looks while a model has no version yet


class VersionManager:
    """Answers which loaded model a request gets, and keeps all as the configuration and the base paths want them."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._storage = Storage()
        self._batcher = Batcher(config.batching) if config.batching else None
        self._models: dict[str, ModelVersions] = {}  # removed ones too: their ended versions stay listed
        self._configured: tuple[ModelSettings, ...] = ()
        self._settled: list[tuple[str, int, int]] = []
        self._change_lock = threading.Lock()  # one refresh or reload at a time; held while loading
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._give_up_s = 0.0  # monotonic time at which a model without a version ends the start
        self.is_complete = False  # whether every configured model has had a version to serve

    def start(self, on_failure: Callable[[ServingError], None]) -> None:
        """Load every model's versions, then watch the base paths and the configuration file in threads.

        Returns as soon as some model can answer; a model that has no version that loads is tried again meanwhile.
        on_failure: called from a thread where such a model has none after all retries.
        Raises ServingError where that is so before it returns, or where a label's version is not there.
        """
        config = self._config
        with self._change_lock:
            self._configure(config.models)
            problems = self._refresh_all()
            self._give_up_s = time.monotonic() + config.max_num_load_retries * config.load_retry_interval_s
            while problems and (len(problems) == len(config.models) or time.monotonic() >= self._give_up_s):
                if time.monotonic() >= self._give_up_s or self._stopping.wait(RETRY_POLL_S):
                    raise ServingError(StatusCode.UNAVAILABLE, "; ".join(problems))
                problems = self._refresh_all()
            self.is_complete = not problems
            self._assign_labels(at_start=True)
            self._settle()
        if config.file_system_poll_wait_s > 0 or not self.is_complete:
            self._start_thread("version-watcher", lambda: self._watch(on_failure))
        if config.model_config_file and config.model_config_poll_wait_s > 0:
            self._start_thread("config-watcher", lambda: self._watch_config(str(config.model_config_file)))

    def stop(self) -> None:
        """Stop watching and let go of all versions."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        with self._change_lock:
            for model in self._models.values():
                model.retire_all()
        if self._batcher is not None:
            self._batcher.close()

    def reload(self, models: tuple[ModelSettings, ...]) -> None:
        """Serve exactly `models` from now on; returns when each has a version to serve.

        Raises ServingError: UNKNOWN naming the models that have none (the others are served), FAILED_PRECONDITION for a
        label on a version that is not loaded.
        """
        with self._change_lock:
            self._configure(models)
            problems = self._refresh_all(retry=True)
            names = {settings.name for settings in models}
            for model in self._models.values():
                if model.settings.name not in names:
                    model.retire_all()
            self._settle()
            if problems:
                raise ServingError(StatusCode.UNKNOWN, "Some models did not become available: " + "; ".join(problems))
            self._assign_labels(at_start=False)

    def poll(self) -> list[str]:
        """Look at the base paths once: load what is new, retire what is no longer wanted.

        Returns what is missing, in words.
        """
        with self._change_lock:
            problems = self._refresh_all()
            self._settle()
            self.is_complete = self.is_complete or not problems
            return problems

    @contextlib.contextmanager
    def serving(self, spec: ModelSpec) -> Iterator[LoadedModel]:
        """The model that `spec` asks for, held loaded until the block ends.

        Raises ServingError: INVALID_ARGUMENT without a name or for an unknown label, NOT_FOUND for an unknown model or
        version.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        if model is None or (self.metric_name(spec) == "" and spec.WhichOneof("version_choice") == "version_label"):
            raise not_found(f"Servable not found for request: {_asked(spec)}")
        with model.hold(spec) as loaded:
            yield loaded

    def status(self, spec: ModelSpec) -> list[Version]:
        """The versions that `spec` asks for, newest first, ended ones included.

        Raises ServingError as `serving` does.
        """
        if not spec.name:
            raise invalid("Missing model name in request.")
        model = self._models.get(spec.name)
        versions = model.listed(spec) if model is not None else []
        if not versions:
            raise not_found(f"Could not find any versions of model {spec.name}")
        return versions

    def metric_name(self, spec: ModelSpec) -> str:
        """The name to count a request on `spec` under: "" unless it is a model's, or clients could invent metrics."""
        return spec.name if any(settings.name == spec.name for settings in self._configured) else ""

    def _configure(self, models: tuple[ModelSettings, ...]) -> None:
        for settings in models:
            model = self._models.get(settings.name)
            if model is None:
                self._models = {
                    **self._models,
                    settings.name: ModelVersions(settings, self._config, self._storage, self._batcher),
                }
            else:
                model.settings = settings
        self._configured = models

    def _current(self) -> Iterable[ModelVersions]:
        return [self._models[settings.name] for settings in self._configured]

    def _refresh_all(self, retry: bool = False) -> list[str]:
        problems = []
        for model in self._current():
            try:
                problem = model.refresh(retry)
            except Exception:  # one model's file system does not keep the others from being looked after
                log.exception("looking for new versions of model %r failed", model.settings.name)
                problem = "" if model.available() else f"{model.settings.name}: looking for versions failed"
            if problem:
                problems.append(problem)
        return problems

    def _assign_labels(self, at_start: bool) -> None:
        for model in self._current():
            check_labels(model, self._config.allow_labels_for_unavailable, at_start)
        for model in self._current():
            model.labels = dict(model.settings.labels)

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=target, name=name, daemon=True))
        self._threads[-1].start()

    def _watch(self, on_failure: Callable[[ServingError], None]) -> None:
        """Poll the base paths; once the retries of the start are used up, tell of models that never had a version."""
        usual_s, told = self._config.file_system_poll_wait_s, False
        while not self._stopping.wait(usual_s if self.is_complete else min(usual_s or RETRY_POLL_S, RETRY_POLL_S)):
            problems = self.poll()
            if self.is_complete and not usual_s:
                return
            if not self.is_complete and not told and time.monotonic() >= self._give_up_s:
                told = True
                on_failure(ServingError(StatusCode.UNAVAILABLE, "; ".join(problems)))

    def _watch_config(self, path: str) -> None:
        """Read the configuration file again and again and serve what it says once it says something else."""
        said = ""
        while not self._stopping.wait(self._config.model_config_poll_wait_s):
            try:
                models = read_model_config(path)
                if models != self._configured:
                    log.info("%s has changed: serving %s from now on", path, [model.name for model in models])
                    self.reload(models)
                said = ""
            except ServingError as error:
                if error.message != said:
                    log.error("%s: %s", path, error.message)
                said = error.message

    def _settle(self) -> None:
        """Free what retired versions held, where any version's state has changed since the last time.

        What a model holds has cycles, so only the collector frees it; and a full collection, over TensorFlow's million
        objects, stops every thread for some 0.15 s: better here than in the middle of requests. Survivors are frozen:
        later collections skip them.
        """
        states = [state for model in self._models.values() for state in model.states()]
        if states != self._settled:
            self._settled = states
            gc.unfreeze()
            gc.collect()
            gc.freeze()


def _asked(spec: ModelSpec) -> str:
    if spec.WhichOneof("version_choice") == "version":
        return f"Specific({spec.name}, {spec.version.value})"
    return f"Latest({spec.name})"
