"""Options added to Keras' optimizers, and the extended optimizers."""

import inspect
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from numbers import Real

import keras
import numpy as np
from keras import ops

from ..arguments import check_number, checks_flags
from ..parsing import shown
from ..patterns import search
from .backends import (
    all_finite,
    by_rows,
    clear,
    clip_by_global_norm,
    cond_with_variables,
    dense,
    each_row_once,
    fill,
    fused_adam,
    may_be_fused,
    where,
    write_rows,
)
from .schedules import PACKAGE, PiecewiseLinear

OWN_WEIGHTS = "own_weights_"  # prefix of keys in files, before the index of a variable


@dataclass(frozen=True)
class Plan:
    """The options that apply to one variable."""

    multiplier: float | PiecewiseLinear = 1.0
    decayed: bool = False
    adapted: bool = False
    centralized: bool = False
    lazy: bool = False


class OptimizerExtensions:
    """Mixin that adds options to a Keras optimizer; see `extend`.

    Patterns are case-insensitive regular expressions, searched for in the paths of variables
    (`block_0/ffn/input/kernel`), within five seconds. A pattern that matches no variable raises a
    `ValueError`, as it is usually a typo.

    Args:
        learning_rate: float or schedule.
        lr_schedule: points of a `PiecewiseLinear` by which `learning_rate` is multiplied.
        lr_multipliers: dict of pattern -> factor of the learning rate, or points of a
            `PiecewiseLinear`; the first matching pattern applies. See `layerwise_multipliers`.
        weight_decay: float; each update subtracts `rate * weight_decay * variable` (arXiv
            1711.05101, Algorithm 2, whose schedule multiplier is our rate).
        exclude_from_weight_decay: patterns. Defaults to biases and all variables of
            normalizations.
        bias_correction: `False`: Adam without it, as the original BERT was trained.
        layer_adaptation: whether to scale the update of each variable by the norm of the variable
            over that of the update (LAMB, arXiv 1904.00962, Algorithm 2, if used with AdamW).
        exclude_from_layer_adaptation: patterns. Defaults as above.
        gradient_centralization: whether to subtract the mean over their inputs from gradients of
            matrices, except embeddings (arXiv 2004.01461, equation 1).
        lazy: patterns of embeddings. Rows without a gradient stay unchanged, including their
            moments and decay. TensorFlow and PyTorch do not touch them, so an update costs only the
            rows of the batch; on JAX, whose gradients have all rows, it costs more than a
            plain one (benchmarks/optimizers.py).
        lookahead: `(sync_period, slow_step)` (arXiv 1907.08610, Algorithm 1). After every
            `sync_period` updates, the slow weights (initially the weights before the first update)
            move `slow_step` of the way to the weights, and the weights are set to them. This holds
            for all trainable variables, with or without a gradient in that update.
        ema_momentum: momentum of a moving average of all trainable variables. Until the end of the
            first update it equals the variables (so weights may be loaded after `build`). It enters
            the model only by `averaged_weights` or the callback `EvaluateAverages`; unlike in Keras
            not at the end of `fit`, so that a second `fit` continues the first.
        gradient_accumulation_steps: number of batches per update, which uses the mean of their
            gradients, for all variables that have one in any of these batches.
        skip_nonfinite: whether to skip batches with a gradient that is not finite: weights,
            moments, averages, sums and `iterations` stay unchanged. (With accumulation, the update
            waits for another batch.) The variables `skipped` and `skipped_in_a_row` count such
            batches. All of this stays on the device, without synchronization. (In `mixed_float16`
            use `optimizers.LossScaleOptimizer`, or nothing is counted: Keras' loss scaling skips
            such batches itself.)
        kwargs: arguments of the Keras optimizer.

    Raises:
        ValueError: a pattern matches no variable, or an option is out of its range.

    Example:
        >>> optimizer = AdamW(
        ...     2e-5, weight_decay=0.01, lr_schedule={100: 1.0, 1000: 0.0},
        ...     lr_multipliers={"crf": 100}, lookahead=(5, 0.5), ema_momentum=0.999)
    """

    @checks_flags
    def __init__(
        self,
        learning_rate=None,
        *,
        lr_schedule=None,
        lr_multipliers=None,
        exclude_from_weight_decay=None,
        bias_correction=True,
        layer_adaptation=False,
        exclude_from_layer_adaptation=None,
        gradient_centralization=False,
        lazy=(),
        lookahead=None,
        ema_momentum=None,
        skip_nonfinite=False,
        **kwargs,
    ):
        if learning_rate is None:
            base = type(self).__mro__[type(self).__mro__.index(OptimizerExtensions) + 1]
            learning_rate = inspect.signature(base).parameters["learning_rate"].default
        if lr_schedule is not None:
            if not isinstance(learning_rate, (int, float)):
                raise ValueError(
                    f"lr_schedule: expected a number as learning_rate, got {learning_rate!r:.200}."
                )
            learning_rate = PiecewiseLinear(float(learning_rate), lr_schedule)
        if isinstance(learning_rate, int):
            learning_rate = float(learning_rate)
        if ema_momentum is not None:
            kwargs |= {"use_ema": True, "ema_momentum": ema_momentum}
        super().__init__(learning_rate, **kwargs)
        if not bias_correction and not isinstance(self, keras.optimizers.Adam):
            raise ValueError(
                "bias_correction=False: expected an optimizer with bias correction, such as Adam, "
                f"got {type(self).__name__}."
            )
        if self.ema_overwrite_frequency:
            raise ValueError(
                f"ema_overwrite_frequency is {self.ema_overwrite_frequency}; expected None. To use "
                "the averages, call apply_ema_weights or pass the callback EvaluateAverages."
            )
        if lookahead is not None:
            lookahead = _period_and_step(lookahead)
        if skip_nonfinite and isinstance(self, keras.optimizers.Nadam):
            raise ValueError(
                "skip_nonfinite: not supported by Nadam, whose momentum schedule is shared by all "
                "variables. Use Adam or AdamW."
            )
        self.lr_multipliers = {
            pattern: {str(k): v for k, v in rate.items()} if isinstance(rate, dict) else rate
            for pattern, rate in (lr_multipliers or {}).items()
        }
        self.not_decayed = _patterns(exclude_from_weight_decay)
        self.bias_correction = bias_correction
        self.layer_adaptation = layer_adaptation
        self.not_adapted = _patterns(exclude_from_layer_adaptation)
        self.gradient_centralization = gradient_centralization
        self.lazy = _patterns(lazy)
        self.lookahead = lookahead
        self.skip_nonfinite = skip_nonfinite
        self._own_weights = None  # the raw weights, while the averages are in the variables
        self._averages_at = None  # the step at which they were exchanged
        self._in_fit = False  # whether that was within `fit`

    def get_config(self):
        config = super().get_config()
        if not self.use_ema:
            config["ema_momentum"] = None
        return config | {
            "lr_multipliers": dict(self.lr_multipliers),
            "exclude_from_weight_decay": self.not_decayed,
            "bias_correction": self.bias_correction,
            "layer_adaptation": self.layer_adaptation,
            "exclude_from_layer_adaptation": self.not_adapted,
            "gradient_centralization": self.gradient_centralization,
            "lazy": self.lazy,
            "lookahead": self.lookahead and list(self.lookahead),
            "skip_nonfinite": self.skip_nonfinite,
        }

    # Before the first update

    def build(self, variables):
        if self.built:
            return
        paths = [variable.path for variable in variables]
        rates = [1.0] * len(paths)
        for pattern, rate in reversed(self.lr_multipliers.items()):
            if isinstance(rate, dict):
                rate = PiecewiseLinear(1.0, rate)
            else:
                check_number(f"lr_multipliers: {shown(pattern)}", rate, 0.0, 1e12)
                rate = float(rate)
            hits = fits("lr_multipliers", [pattern], paths)
            rates = [rate if hit else old for hit, old in zip(hits, rates, strict=True)]
        excluded = {
            name: [bool(re.search("norm|bias", path)) for path in paths]
            if patterns is None
            else fits(name, patterns, paths)
            for name, patterns in (
                ("exclude_from_weight_decay", self.not_decayed),
                ("exclude_from_layer_adaptation", self.not_adapted),
            )
        }
        lazy = fits("lazy", self.lazy, paths)
        self._plans = [
            Plan(
                multiplier=rates[i],
                decayed=bool(self.weight_decay) and not excluded["exclude_from_weight_decay"][i],
                adapted=self.layer_adaptation and not excluded["exclude_from_layer_adaptation"][i],
                centralized=self.gradient_centralization
                and len(variable.shape) > 1
                and "embedding" not in variable.path,
                lazy=lazy[i] and len(variable.shape) == 2,
            )
            for i, variable in enumerate(variables)
        ]
        self._absent = frozenset()
        super().build(variables)
        if self.use_ema:
            fill(self._model_variables_moving_average, variables)
        if self.lookahead:
            self._slow = self.add_optimizer_variables(variables, "slow")
            fill(self._slow, variables)
        if self.skip_nonfinite:
            self.skipped, self.skipped_in_a_row = (
                self.add_variable((), "zeros", "int", "only_first_replica", name=name)
                for name in ("skipped", "skipped_in_a_row")
            )

    # One update

    def _backend_apply_gradients(self, grads, trainable_variables):
        """Accumulates the gradients, or applies the update on the last micro-batch."""
        rate = ops.convert_to_tensor(self.learning_rate)
        if self.skip_nonfinite:
            finite = all_finite(grads)
            # a rate that is not finite makes each replica and each variable skip the update
            rate = ops.where(finite, rate, float("nan"))
        if self.gradient_accumulation_steps or self.lookahead or self.use_ema:
            grads, trainable_variables = self._with_absent(grads, trainable_variables)
        self._add_or_update(grads, trainable_variables, rate)
        if self.skip_nonfinite:
            skipped = ops.cast(ops.logical_not(finite), self._iterations.dtype)
            self.skipped.assign_add(skipped)
            self.skipped_in_a_row.assign((self.skipped_in_a_row + skipped) * skipped)
            self._iterations.assign_sub(skipped)  # Keras is going to add 1

    def _with_absent(self, grads, variables):
        """Adds variables without a gradient: sums, slow weights and averages cover them, too."""
        present = {self._get_variable_index(variable) for variable in variables}
        absent = {
            i: variable
            for i, variable in enumerate(self._trainable_variables)
            if i not in present and not self._overwrite_variable_with_gradient(variable)
        }
        self._absent = frozenset(absent)
        return [*grads, *[None] * len(absent)], [*variables, *absent.values()]

    def _add_or_update(self, grads, trainable_variables, rate):
        steps = self.gradient_accumulation_steps
        if not steps:
            self._update(grads, trainable_variables, rate)
            return
        sums = [
            self._accumulated_gradients[self._get_variable_index(v)] for v in trainable_variables
        ]

        def update(rate, *grads):
            means = [
                (before if g is None else dense(g) + before) / steps
                for g, before in zip(grads, sums, strict=True)
            ]
            self._update(means, trainable_variables, rate)

        def add(rate, *grads):
            present = [(dense(g), s) for g, s in zip(grads, sums, strict=True) if g is not None]
            grads, present_sums = zip(*present, strict=True)
            if self.skip_nonfinite:
                grads = [ops.where(ops.isfinite(rate), g, 0) for g in grads]
            self._backend_increment_gradient_accumulators(grads, present_sums)

        is_last = partial(ops.equal, (self._iterations + 1) % steps, 0)
        cond_with_variables(
            is_last, update, add, [rate, *grads], [*trainable_variables, *self.variables]
        )

    def _update(self, grads, variables, rate):
        if keras.backend.backend() != "tensorflow":
            grads = self._clip_gradients(grads)
        self._backend_update_step(grads, variables, rate)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Clips on TensorFlow: the norm to clip is that of the sum over all replicas."""
        absent = [(g, v) for g, v in grads_and_vars if g is None]
        reduced = super()._all_reduce_sum_gradients(
            [(g, v) for g, v in grads_and_vars if g is not None]
        )
        grads = self._clip_gradients(
            [each_row_once(g) if self._plan(v).lazy else dense(g) for g, v in reduced]
        )
        return [(g, v) for g, (_, v) in zip(grads, reduced, strict=True)] + absent

    def _clip_gradients(self, grads):
        if keras.backend.backend() != "torch" or not self.global_clipnorm or self.clipnorm:
            return super()._clip_gradients(grads)
        present = [g for g in grads if g is not None]
        clipped = iter(clip_by_global_norm(present, self.global_clipnorm))
        return [None if g is None else next(clipped) for g in grads]

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if keras.backend.backend() != "torch":
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        import torch

        with torch.no_grad():
            for gradient, variable in self._update_at_once(
                zip(grads, trainable_variables, strict=True), learning_rate
            ):
                self.update_step(gradient, variable, learning_rate)

    def _update_at_once(self, pairs, learning_rate):
        """Updates variables with plain Adam by PyTorch's fused kernel.

        The kernel goes over memory once, where separate operations go over it many times. A
        compiler that is recording the step fuses operations itself.

        Args:
            pairs: gradients and variables of the same shapes, iterated once.
            learning_rate: a scalar tensor; with `skip_nonfinite`, a rate that is not finite leaves
                all unchanged.

        Returns:
            list of the pairs that are not updated yet.
        """
        is_adam = super().update_step.__func__ is keras.optimizers.Adam.update_step
        plain = is_adam and not (self.amsgrad or self.lookahead or self.use_ema)
        groups, others = {}, []
        for gradient, variable in pairs:
            plan = self._plan(variable)
            fusable = plain and not (plan.lazy or plan.centralized or plan.adapted)
            fusable = fusable and self._get_variable_index(variable) not in self._absent
            if fusable and may_be_fused(gradient, variable):
                groups.setdefault(plan, []).append((gradient, variable))
            else:
                others.append((gradient, variable))
        finite = ops.isfinite(learning_rate) if self.skip_nonfinite else None
        for plan, group in groups.items():
            gradients, variables = zip(*group, strict=True)
            index = [self._get_variable_index(variable) for variable in variables]
            correction = self._bias_correction("float32") if self.bias_correction else 1
            fused_adam(
                self,
                gradients,
                variables,
                [self._momentums[i] for i in index],
                [self._velocities[i] for i in index],
                rate=learning_rate * self._multiplier(plan, "float32"),
                correction=correction,
                decay=self.weight_decay if plan.decayed else 0,
                finite=finite,
            )
            if self.gradient_accumulation_steps:
                clear([self._accumulated_gradients[i] for i in index], finite)
        return others

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable (on TensorFlow a `tf.Variable`).

        Args:
            gradient: None: only the slow weights and the average of the variable are updated.
            variable: the variable.
            learning_rate: scalar.
        """
        if self.skip_nonfinite:
            with self._unchanged_unless(ops.isfinite(learning_rate), variable):
                self._update_variable(gradient, variable, learning_rate)
        else:
            self._update_variable(gradient, variable, learning_rate)

    @contextmanager
    def _unchanged_unless(self, condition, variable):
        """Reverts changes to a variable and its state made inside, unless the condition holds."""
        tables = self._tables(variable)
        before = [ops.copy(table) for table in tables]
        yield
        for table, old in zip(tables, before, strict=True):
            self.assign(table, where(condition, table, old))

    def _tables(self, variable):
        """Returns a variable and all optimizer variables that belong to it."""
        index, count = self._get_variable_index(variable), len(self._trainable_variables)
        columns = [
            column
            for column in vars(self).values()
            if isinstance(column, list) and len(column) == count and column is not self._variables
        ]
        kept = [c[index] for c in columns if c is not self._trainable_variables]
        return [variable, *(table for table in kept if isinstance(table, keras.Variable))]

    def _update_variable(self, gradient, variable, learning_rate):
        before = ops.copy(variable) if self.lookahead else None
        if gradient is None:
            pass
        elif self._get_variable_index(variable) in self._absent:
            # its gradient, if any, is from earlier micro-batches
            with self._unchanged_unless(ops.any(ops.not_equal(gradient, 0)), variable):
                self._descend(gradient, variable, learning_rate)
        else:
            self._descend(gradient, variable, learning_rate)
        if self.lookahead:
            self._look_ahead(variable, before)
        if self.use_ema:
            self._average(variable)
        if self.gradient_accumulation_steps:
            sums = self._accumulated_gradients[self._get_variable_index(variable)]
            self.assign(sums, ops.zeros(sums.shape, sums.dtype))

    def _descend(self, gradient, variable, learning_rate):
        plan = self._plan(variable)
        rate = ops.cast(learning_rate, variable.dtype) * self._multiplier(plan, variable.dtype)
        if plan.centralized:
            inputs = tuple(range(len(gradient.shape) - 1))
            gradient = gradient - ops.mean(gradient, axis=inputs, keepdims=True)
        change = self._change_rows if plan.lazy else self._change
        if not plan.adapted:
            change(gradient, variable, rate, plan)
            return
        before = ops.copy(variable)
        change(gradient, variable, ops.ones_like(rate), plan)
        direction = ops.subtract(variable, before)
        norm, size = ops.norm(before), ops.norm(direction)
        ratio = ops.where((norm > 0) & (size > 0), norm / size, 1)
        self.assign(variable, before + rate * ratio * direction)

    def _plan(self, variable):
        return self._plans[self._get_variable_index(variable)]

    def _multiplier(self, plan, dtype):
        if isinstance(plan.multiplier, PiecewiseLinear):
            return ops.cast(plan.multiplier(self.iterations), dtype)
        return plan.multiplier

    def _change(self, gradient, variable, rate, plan):
        """Applies weight decay to a variable, and the update of the Keras optimizer."""
        if plan.decayed:
            self.assign_sub(variable, ops.multiply(variable, rate * self.weight_decay))
        if not self.bias_correction:
            rate = rate / self._bias_correction(variable.dtype)
        if hasattr(super(), "_parallel_update_step"):  # PyTorch: fused in-place operations
            super()._parallel_update_step([gradient], [variable], rate)
        else:
            super().update_step(gradient, variable, rate)

    def _bias_correction(self, dtype):
        """Returns Adam's factor of the learning rate (arXiv 1412.6980, end of section 2)."""
        step = ops.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = (ops.power(ops.cast(b, dtype), step) for b in (self.beta_1, self.beta_2))
        return ops.sqrt(1 - beta_2) / (1 - beta_1)

    def _change_rows(self, gradient, variable, rate, plan):
        """Updates the rows with a gradient and leaves the others unchanged."""
        base_update_step = super().update_step.__func__
        if base_update_step is keras.optimizers.Adam.update_step and not self.amsgrad:
            index = self._get_variable_index(variable)
            moments = [self._momentums[index], self._velocities[index]]
            alpha = rate * self._bias_correction(variable.dtype) if self.bias_correction else rate

            def adam(ids, rows):
                tables = [variable, *moments]
                old, m, v = (ops.take(table, ids, axis=0) for table in tables)
                m = m + (rows - m) * (1 - self.beta_1)
                v = v + (rows * rows - v) * (1 - self.beta_2)
                new = old - old * (rate * self.weight_decay) if plan.decayed else old
                new = new - m * alpha / (ops.sqrt(v) + self.epsilon)
                for table, values in zip(tables, (new, m, v), strict=True):
                    write_rows(self, table, ids, values)

        else:
            adam, moments = None, self._base_variables(variable)

        def whole(gradient):
            tables = [variable, *moments]
            before = [ops.copy(table) for table in tables]
            has_gradient = ops.any(ops.not_equal(gradient, 0), axis=1, keepdims=True)
            self._change(gradient, variable, rate, plan)
            for table, old in zip(tables, before, strict=True):
                self.assign(table, where(has_gradient, table, old))

        by_rows(gradient, adam, whole)

    def _base_variables(self, variable):
        """Returns the variables of the same shape that the Keras optimizer keeps for a variable."""
        index = self._get_variable_index(variable)
        known = self._trainable_variables[index]
        ours = [
            getattr(self, name)[index]
            for name in ("_slow", "_model_variables_moving_average", "_accumulated_gradients")
            if getattr(self, name, None)
        ]
        prefix = f"{known.path.replace('/', '_')}_"
        return [
            x
            for x in self.variables
            if x.name.startswith(prefix)
            and x.shape == known.shape
            and not any(x is other for other in ours)
        ]

    def _look_ahead(self, variable, before):
        period, step = self.lookahead
        slow = self._slow[self._get_variable_index(variable)]
        begin = where(ops.equal(self.iterations, 0), before, slow)
        is_time = ops.equal((self.iterations + 1) % period, 0)
        moved = ops.where(is_time, begin + step * ops.subtract(variable, begin), begin)
        self.assign(slow, moved)
        self.assign(variable, where(is_time, moved, variable))

    def _average(self, variable):
        average = self._model_variables_moving_average[self._get_variable_index(variable)]
        momentum = ops.where(ops.equal(self.iterations, 0), 0.0, self.ema_momentum)
        momentum = ops.cast(momentum, variable.dtype)
        self.assign(average, ops.add(momentum * average, ops.multiply(1 - momentum, variable)))

    def _get_current_learning_rate(self):
        """Returns the rate of the update; Keras would evaluate a schedule at the micro-batch."""
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    # Overridden, because the updates above do this

    def _apply_weight_decay(self, variables):
        pass

    def finalize_variable_values(self, var_list):
        """Restores the raw weights at the end of `fit`.

        Keras calls it before callbacks may restore the best weights.
        """
        if self._in_fit and self.averages_are_in:
            self.reset_old_weights()

    # The moving average

    @property
    def averages_are_in(self):
        """Whether the variables hold their moving averages: exchanged, and not changed since."""
        if self._own_weights is None or self._averages_at != self._step():
            return False
        expected = self._model_variables_moving_average if self._step() else self._own_weights
        return all(map(_equal, self._trainable_variables, expected))

    def _step(self):
        return int(ops.convert_to_numpy(self._iterations))

    @contextmanager
    def averaged_weights(self):
        """Context in which the variables have the values of their moving averages.

        Example:
            >>> with optimizer.averaged_weights():
            ...     model.evaluate(batches)
        """
        if self.averages_are_in:
            yield
            return
        self.apply_ema_weights()
        try:
            yield
        finally:
            self.reset_old_weights()

    @contextmanager
    def own_weights(self):
        """Context in which the variables have the raw weights, with which training continues."""
        if not self.averages_are_in:
            yield
            return
        in_fit = self._in_fit
        self.reset_old_weights()
        try:
            yield
        finally:
            self.apply_ema_weights(in_fit)

    def apply_ema_weights(self, in_fit=False):
        """Puts the moving averages into the variables, until `reset_old_weights`.

        A file of the model saved in between has both: the averages as its weights, and the raw
        weights in the state of the optimizer. After it is loaded, `reset_old_weights`, or `fit`
        with `EvaluateAverages`, continues from the raw weights.

        Args:
            in_fit: whether the end of `fit` restores the raw weights, too.

        Raises:
            ValueError: there are no averages yet, or they are in the variables already.
        """
        if not self.use_ema or not self.built:
            raise ValueError(
                "apply_ema_weights: there is no moving average yet. Pass ema_momentum to the "
                "optimizer, and train."
            )
        if self.averages_are_in:
            raise ValueError(
                "apply_ema_weights: the moving averages are in the variables already. Call "
                "reset_old_weights first."
            )
        self._own_weights = [ops.convert_to_numpy(v) + 0 for v in self._trainable_variables]
        self._averages_at, self._in_fit = self._step(), in_fit
        if int(ops.convert_to_numpy(self.iterations)):
            fill(self._trainable_variables, self._model_variables_moving_average)

    def reset_old_weights(self):
        """Restores the raw weights that `apply_ema_weights` replaced.

        Raises:
            ValueError: the averages are not in the variables, or the model was trained since.
        """
        if not self.averages_are_in:
            raise ValueError(
                "reset_old_weights: the moving averages are not in the variables. Call "
                "apply_ema_weights first."
            )
        for variable, weights in zip(self._trainable_variables, self._own_weights, strict=True):
            variable.assign(weights)
        self._own_weights = None

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.averages_are_in:
            for i, weights in enumerate(self._own_weights):
                store[f"{OWN_WEIGHTS}{i}"] = weights

    def load_own_variables(self, store):
        # Keras' HDF5 store is not iterable
        values = {name: store[name] for name in store.keys()}  # noqa: SIM118
        own_weights = {
            name: values.pop(name) for name in list(values) if name.startswith(OWN_WEIGHTS)
        }
        super().load_own_variables(values)
        self._own_weights = None
        if self.built and len(own_weights) == len(self._trainable_variables):
            self._own_weights = [
                np.array(own_weights[f"{OWN_WEIGHTS}{i}"]) for i in range(len(own_weights))
            ]
            self._averages_at, self._in_fit = self._step(), False


def _period_and_step(lookahead):
    match lookahead:
        case [Real() as period, Real() as step] if (
            not isinstance(period, bool) and int(period) == period >= 1 and 0 < step <= 1
        ):
            return int(period), float(step)
    raise ValueError(
        f"lookahead={lookahead!r}: expected a period of at least 1 update and a step above 0 and "
        "at most 1."
    )


def _equal(x, y):
    x, y = (np.asarray(ops.convert_to_numpy(value), "float32") for value in (x, y))
    return np.array_equal(x, y, equal_nan=True)


def _patterns(patterns):
    return None if patterns is None else [patterns] if isinstance(patterns, str) else list(patterns)


def fits(argument, patterns, paths):
    """Returns, for each path, whether any pattern matches.

    Raises:
        ValueError: a pattern matches none of the paths.
    """
    fitting = [search(argument, pattern, paths, ignore_case=True) for pattern in patterns]
    for pattern, hits in zip(patterns, fitting, strict=True):
        if not any(hits):
            examples = ", ".join(paths[:: max(1, len(paths) // 8)])
            raise ValueError(
                f"{argument}: {pattern!r} matches no variable; expected a part of a path such as "
                f"{examples}."
            )
    return [any(column) for column in zip(*fitting, strict=True)] or [False] * len(paths)


@cache
def extend(base):
    """Returns a subclass of a Keras optimizer with the options of `OptimizerExtensions`.

    Args:
        base: a subclass of `keras.optimizers.Optimizer`.

    Returns:
        A subclass of `base`. Those of Keras' optimizers that this module defines are registered
        when it is imported, so a `.keras` file with one loads anywhere. Others must be extended
        before such a file is loaded.

    Raises:
        ValueError: `base` is not a class of Keras optimizers.
    """
    if isinstance(base, type) and issubclass(base, OptimizerExtensions):
        return base
    if not (isinstance(base, type) and issubclass(base, keras.optimizers.Optimizer)):
        raise ValueError(f"extend: expected a class of Keras optimizers, got {base!r:.200}.")
    doc = f"`keras.optimizers.{base.__name__}` with the options of `OptimizerExtensions`."
    parent = base
    if keras.backend.backend() == "torch" and base.__module__.startswith("keras."):
        parent = type(base())  # on PyTorch, instances are of a faster class
    extended = type(
        base.__name__, (OptimizerExtensions, parent), {"__doc__": doc, "__module__": __name__}
    )
    return keras.saving.register_keras_serializable(PACKAGE)(extended)


SGD = extend(keras.optimizers.SGD)
Adam = extend(keras.optimizers.Adam)
AdamW = extend(keras.optimizers.AdamW)
Adafactor = extend(keras.optimizers.Adafactor)
Lion = extend(keras.optimizers.Lion)


def Lookahead(inner, sync_period=5, slow_step=0.5):
    """Returns a Keras optimizer with Lookahead (arXiv 1907.08610).

    Args:
        inner: an optimizer that was not used yet, extended or not.
        sync_period: number of updates between two moves of the slow weights.
        slow_step: fraction of the way that they move.

    Returns:
        A new optimizer.

    Raises:
        ValueError: `inner` is not such an optimizer.

    Example:
        >>> optimizer = Lookahead(keras.optimizers.AdamW(1e-3), sync_period=5, slow_step=0.5)
    """
    return _with(inner, lookahead=(sync_period, slow_step))


def Lazy(inner, patterns=("embedding",)):
    """Returns a Keras optimizer that leaves rows without a gradient unchanged.

    Args:
        inner: an optimizer that was not used yet, extended or not.
        patterns: patterns of the paths of variables whose rows are updated separately.

    Returns:
        A new optimizer.

    Raises:
        ValueError: `inner` is not such an optimizer.
    """
    return _with(inner, lazy=patterns)


def _with(inner, **options):
    if not isinstance(inner, keras.optimizers.Optimizer) or inner.built:
        raise ValueError(
            f"inner: expected a Keras optimizer that is not built yet, got {inner!r:.200}."
        )
    if isinstance(inner, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "inner: expected an optimizer without loss scaling. Put the loss scaling around it: "
            "LossScaleOptimizer(Lookahead(inner))."
        )
    # on PyTorch, Keras' optimizers are instances of backend-specific subclasses
    base = next(c for c in type(inner).__mro__ if ".backend." not in c.__module__)
    return extend(base).from_config(inner.get_config() | options)
