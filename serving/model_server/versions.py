"""Manages all configured models: which version a request gets, and how the set changes while the server runs."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator

from grpc import StatusCode
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.model_server.batching import Batcher
from serving.model_server.config import ModelSettings, ServerConfig, read_model_config
from serving.model_server.errors import ServingError, invalid, not_found
from serving.model_server.loader import LoadedModel
from serving.model_server.model_versions import ModelVersions, Version
from serving.model_server.storage import Storage

log = logging.getLogger(__name__)

RETRY_POLL_S = 0.2  # between two looks while a model has no version yet
LET_GO_S = 1.0  # from the last request of a retired version until its thread surely holds the model no more


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
            self._configured = config.models
            problems = self._refresh_all()
            self._give_up_s = time.monotonic() + config.max_num_load_retries * config.load_retry_interval_s
            while problems and (len(problems) == len(config.models) or time.monotonic() >= self._give_up_s):
                if time.monotonic() >= self._give_up_s or self._stopping.wait(RETRY_POLL_S):
                    raise ServingError(StatusCode.UNAVAILABLE, "; ".join(problems))
                problems = self._refresh_all()
            self.is_complete = not problems
            self._assign_labels(config.models, at_start=True)
            self._settle()
        if config.file_system_poll_wait_s > 0 or not self.is_complete:
            self._start_thread("version-watcher", lambda: self._watch(on_failure))
        if config.model_config_file and config.model_config_poll_wait_s > 0:
            self._start_thread("config-watcher", lambda: self._watch_config(str(config.model_config_file)))

    def stop(self) -> None:
        """Stop watching and let go of all versions.

        Where one is still being loaded after `shutdown_grace_s`, that is left to the end of the process.
        """
        self._stopping.set()
        give_up_s = time.monotonic() + self._config.shutdown_grace_s
        for thread in self._threads:
            thread.join(max(0.0, give_up_s - time.monotonic()))
        if self._change_lock.acquire(timeout=max(0.0, give_up_s - time.monotonic())):
            for model in self._models.values():
                model.retire_all()
            self._change_lock.release()
        else:
            log.warning("stopping while a version is being loaded")
        if self._batcher is not None:
            self._batcher.close()

    def reload(self, models: tuple[ModelSettings, ...], retry: bool = True) -> None:
        """Serve exactly `models` from now on; returns when each has a version to serve.

        Versions are loaded before labels move, and retired afterwards.
        retry: whether to try failed versions now, whatever their files and the interval say.
        Raises ServingError: UNKNOWN naming the models that have none (the others are served), FAILED_PRECONDITION for a
        label on a version that is not loaded: everything stays as it was.
        """
        with self._change_lock:
            problems = [problem for settings in models if (problem := self._load(settings, retry))]
            try:
                self._assign_labels(models, at_start=False)
                self._configured = models
            except ServingError:
                for settings in self._configured:
                    self._load(settings)
                raise
            finally:
                self._retire_unwanted()
                self._settle()
            if problems:
                raise ServingError(StatusCode.UNKNOWN, "Some models did not become available: " + "; ".join(problems))

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

    def _refresh_all(self) -> list[str]:
        problems = []
        for settings in self._configured:
            problems.append(self._load(settings))
            self._models[settings.name].retire()
        return [problem for problem in problems if problem]

    def _load(self, settings: ModelSettings, retry: bool = False) -> str:
        """Load one model's versions as `settings` want them; what is missing, in words."""
        model = self._models.get(settings.name)
        if model is None:
            model = ModelVersions(settings, self._config, self._storage, self._batcher, self._settle_later)
            self._models = {**self._models, settings.name: model}
        model.settings = settings
        try:
            return model.load(retry)
        except Exception:  # one model's file system does not keep the others from being looked after
            log.exception("looking for new versions of model %r failed", settings.name)
            return "" if model.available() else f"{settings.name}: looking for versions failed"

    def _retire_unwanted(self) -> None:
        names = {settings.name for settings in self._configured}
        for name, model in self._models.items():
            if name in names:
                model.retire()
            else:
                model.retire_all()

    def _assign_labels(self, models: tuple[ModelSettings, ...], at_start: bool) -> None:
        current = [self._models[settings.name] for settings in models]
        for model in current:
            model.check_labels(self._config.allow_labels_for_unavailable, at_start)
        for model in current:
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
        """Read the configuration file again and again and serve what it says once it says something else.

        Where that fails, it is tried again when a version comes or goes, and every `load_retry_interval_s`.
        """
        said = ""
        failed: tuple | None = None  # the models of the last reload, and the versions' states after it
        again_s = 0.0  # monotonic time
        while not self._stopping.wait(self._config.model_config_poll_wait_s):
            try:
                models = read_model_config(path)
                if models is None:
                    raise invalid("it names no models, so nothing changes; `model_config_list {}` means none")
                if failed is None:
                    is_due = models != self._configured
                else:
                    is_due = (models, self._settled) != failed or time.monotonic() >= again_s
                if is_due:
                    is_new = failed is None or models != failed[0]
                    if is_new:
                        log.info("%s has changed: serving %s from now on", path, [model.name for model in models])
                    try:
                        self.reload(models, retry=is_new)
                        failed = None
                    except ServingError:
                        failed = models, self._settled
                        again_s = time.monotonic() + self._config.load_retry_interval_s
                        raise
                said = ""
            except ServingError as error:
                if error.message != said:
                    log.error("%s: %s", path, error.message)
                said = error.message

    def _settle_later(self) -> None:
        """Settle when the thread that calls, which has answered a retired version's last request, has let go of it."""

        def settle() -> None:
            with self._change_lock:
                self._settle()

        timer = threading.Timer(LET_GO_S, settle)
        timer.daemon = True
        timer.start()

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
