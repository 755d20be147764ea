"""Distribution strategies for training, and the reductions that losses need under them.

A batch is always the global one: its rows are distributed to the replicas, and losses are means over all of them, so
that several replicas take the step that one would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from trainer.config.engine import EngineConfig
from trainer.keras import tf

_LOST = (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError, tf.errors.CancelledError)
_NO_GPU = "engine.device: got 'gpu', but TensorFlow sees none on this machine; 'auto' takes what there is"


def strategy_for(engine: EngineConfig) -> tf.distribute.Strategy:
    """The strategy of all the workers that TF_CONFIG names, where it names several, else of this machine's devices.

    Several workers must ask before TensorFlow does anything else. Raises ValueError for a device that is not there.
    """
    if engine.device == "tpu" or len(_workers()) < 2:
        return local_strategy(engine)
    if engine.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    if engine.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise ValueError(_NO_GPU)
    return tf.distribute.MultiWorkerMirroredStrategy()


@contextmanager
def among_workers() -> Iterator[None]:
    """What is called in here computes with other workers, if there are any, and ends where one of them is lost.

    TensorFlow takes a worker for lost of which the first one has heard nothing for 10 s (the heartbeat of its
    coordination service), and ends the step in which the others wait for it. Raises RuntimeError then.
    """
    try:
        yield
    except _LOST as error:
        if len(_workers()) < 2:
            raise
        cause = next((line for line in error.message.splitlines() if "aborted by" in line), error.message)
        raise RuntimeError(
            "lost another worker of TF_CONFIG; start all of them again with the same arguments, and they go on from "
            f"the last checkpoint ({cause.strip()})"
        ) from error


def local_strategy(engine: EngineConfig) -> tf.distribute.Strategy:
    """The strategy of this machine's devices, or of a TPU. Raises ValueError for a device that is not there."""
    if engine.device == "tpu":
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=engine.tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    gpus = [] if engine.device == "cpu" else tf.config.list_logical_devices("GPU")
    if engine.device == "gpu" and not gpus:
        raise ValueError(_NO_GPU)
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.OneDeviceStrategy(devices[0])


def _workers() -> list[str]:
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    return [*cluster.get("chief", ()), *cluster.get("worker", ())]


def is_chief() -> bool:
    """Whether this process is the one that writes: the chief, or the first worker, or the only one."""
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    task = config.get("task", {})
    if len(_workers()) < 2:
        return True
    return task.get("type") == "chief" or ("chief" not in config["cluster"] and task.get("index", 0) == 0)


_REWRITES = {
    "mixed_bfloat16": ("CPU", "auto_mixed_precision_onednn_bfloat16"),
    "mixed_float16": ("GPU", "auto_mixed_precision"),
}


@contextmanager
def in_precision(precision: str) -> Iterator[None]:
    """What is called in here multiplies in 16 bits where that is safe; variables, the rest and what is called elsewhere
    stay float32.

    precision: of EngineConfig. Raises ValueError where the devices of the strategy in scope are of another kind.
    """
    if precision == "float32":
        yield
        return
    kind, rewrite = _REWRITES[precision]
    devices = tf.distribute.get_strategy().extended.worker_devices
    if not all(f"device:{kind}" in device for device in devices):
        raise ValueError(f"engine.precision: {precision} is for a {kind}, and training runs on {', '.join(devices)}")
    tf.config.optimizer.set_experimental_options({rewrite: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({rewrite: False})


def global_sum(values):
    """Sums a tensor over the replicas: a loss divides by it, so that the shares of replicas add up to a mean."""
    total = tf.reduce_sum(values)
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return total
    return context.all_reduce(tf.distribute.ReduceOp.SUM, total)


def agreed(value: float) -> float:
    """The mean of a number over all replicas: the same on every worker, to the last bit, so that all decide alike."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return value

    @tf.function
    def mean():
        return strategy.reduce(
            tf.distribute.ReduceOp.MEAN, strategy.run(lambda: tf.constant(value, tf.float64)), axis=None
        )

    return float(mean())


def deal(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """Distributes the rows of a batch that every worker holds whole: a value for each replica, for strategy.run."""
    strategy = tf.distribute.get_strategy()
    parts = strategy.num_replicas_in_sync
    return {
        name: strategy.experimental_distribute_values_from_function(
            lambda context, array=array: tf.constant(array[context.replica_id_in_sync_group :: parts])
        )
        for name, array in arrays.items()
    }
