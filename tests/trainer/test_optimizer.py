"""One pass over the weights is the step that Keras takes in many."""

import numpy as np
import pytest

from trainer.keras import tf
from trainer.optimizer import FusedAdam


@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_steps_are_those_of_keras(weight_decay):
    """With a falling rate, and a variable that is left out of the decay; gradients of some rows, or of none."""
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=(5, 3)), random.normal(size=(4, 5, 3)).astype(np.float32)
    gradients[1, 2:] = 0

    def after(kind):
        rate = tf.keras.optimizers.schedules.CosineDecay(0.1, 4)
        optimizer = kind(rate, weight_decay=weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        variables = [tf.Variable(start, dtype=tf.float32, name=name) for name in ("kernel", "bias", "rows")]
        optimizer.build(variables)

        @tf.function
        def step(gradient):
            some = tf.IndexedSlices(gradient[:2], tf.constant([3, 3]), tf.constant([5, 3]))
            optimizer.apply_gradients(zip([gradient, gradient, some], variables))

        for gradient in gradients:
            step(tf.constant(gradient))
        return [*(variable.numpy() for variable in variables), *(each.numpy() for each in optimizer.variables)]

    for got, expected in zip(after(FusedAdam), after(tf.keras.optimizers.Adam), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
