"""The optimizer of the models here: Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019)."""

from __future__ import annotations

from trainer.keras import tf


class FusedAdam(tf.keras.optimizers.Adam):
    """Keras' Adam, whose step on a dense gradient is one pass over the weights and their moments in place of ten."""

    def update_step(self, gradient, variable):
        """Changes a variable and its moments by a gradient."""
        place = self._index_dict[self._var_key(variable)]
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].handle,
            v=self._velocities[place].handle,
            beta1_power=tf.cast(self.beta_1, variable.dtype) ** step,
            beta2_power=tf.cast(self.beta_2, variable.dtype) ** step,
            lr=tf.cast(self.learning_rate, variable.dtype),
            beta1=tf.cast(self.beta_1, variable.dtype),
            beta2=tf.cast(self.beta_2, variable.dtype),
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=gradient,
        )
