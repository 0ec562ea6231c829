"""What is added to an optimizer of Keras, and the optimizers it is added to here."""

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
    dense,
    each_row_once,
    either,
    fill,
    fused_adam,
    may_be_fused,
    where,
    write_rows,
)
from .rates import MOST_RATE, PACKAGE, PiecewiseLinear

OWN_WEIGHTS = "own_weights_"  # in files, beside the numbers of variables
RANGES = {
    "weight_decay": (0.0, 1e12),
    "clipnorm": (0.0, 1e12),  # 0: Keras clips nothing
    "clipvalue": (0.0, 1e12),
    "global_clipnorm": (0.0, 1e12),
    "loss_scale_factor": (1e-12, 1e12),
    "ema_momentum": (0.0, 1.0),
    "gradient_accumulation_steps": (2, 2**31 - 1),
    "beta_1": (0.0, 1.0),
    "beta_2": (0.0, 1.0),
}


@dataclass(frozen=True)
class Plan:
    """What applies to one variable."""

    multiplier: float | PiecewiseLinear = 1.0
    decayed: bool = False
    adapted: bool = False
    centralized: bool = False
    lazy: bool = False


class Extended:
    """What `extend` puts before an optimizer of Keras.

    Patterns are regular expressions for the paths of variables (`block_0/ffn/input/kernel`;
    capitals do not matter), searched for within five seconds. One that fits no variable is an error, as it is a slip of the pen.

    Args:
        learning_rate: float or schedule.
        lr_schedule: points of a `PiecewiseLinear` by which `learning_rate` is multiplied.
        lr_multipliers: dict of pattern -> factor of the learning rate, or points of a
            `PiecewiseLinear`; the first pattern that fits counts. See `layerwise_multipliers`.
        weight_decay: float; each update takes `rate * weight_decay * variable` away (arXiv
            1711.05101, Algorithm 2, whose schedule multiplier is our rate).
        exclude_from_weight_decay: patterns. The default leaves out biases and all of
            normalizations.
        bias_correction: `False`: Adam without it, as the original BERT was trained.
        layer_adaptation: scale each variable's update by the norm of the variable over that of the
            update (LAMB, arXiv 1904.00962, Algorithm 2, when put on AdamW).
        exclude_from_layer_adaptation: patterns; the default as above.
        gradient_centralization: take the mean over their inputs from gradients of matrices,
            embeddings excepted (arXiv 2004.01461, equation 1).
        lazy: patterns of embeddings. Rows without a gradient stay as they are, moments and
            decay included. TensorFlow and PyTorch do not touch them, so an update costs what the
            rows of the batch cost; on JAX, whose gradients have all rows, it costs more than a
            plain one (benchmarks/optimizers.py).
        lookahead: `(sync_period, slow_step)` (arXiv 1907.08610, Algorithm 1): after each
            `sync_period` updates the slow weights, which are the weights before the first update,
            go `slow_step` of the way to the weights, and these go on from there. That holds for
            all trainable variables, with a gradient in that update or without.
        ema_momentum: keep a moving average of all trainable variables, which is the variables
            themselves up to the first update and right after it (so weights may be loaded after
            `build`). It enters the model only by `averaged_weights` or the callback
            `EvaluateAverages`; unlike in Keras not at the end of `fit`, so that a second `fit`
            continues the first.
        gradient_accumulation_steps: one update for so many batches, from the mean of their
            gradients, for all variables that have one in any of these batches.
        skip_nonfinite: a batch with a gradient that is not finite counts as if it had not come:
            weights, moments, averages, sums and `iterations` stay as they are. (With
            accumulation, the update waits for another batch.) The variables `skipped` and
            `skipped_in_a_row` count such batches. All on the device: nothing waits for it. (In
            `mixed_float16` take `optimizers.LossScaleOptimizer`, or nothing is counted: Keras'
            loss scaling leaves such batches out by itself.)
        kwargs: of the Keras optimizer.

    Raises:
        ValueError: a pattern that fits no variable, or an option out of its range.

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
            base = type(self).__mro__[type(self).__mro__.index(Extended) + 1]
            learning_rate = inspect.signature(base).parameters["learning_rate"].default
        if isinstance(learning_rate, Real):
            check_number("learning_rate", learning_rate, 0.0, MOST_RATE)
            learning_rate = float(learning_rate)
        elif lr_schedule is not None:
            raise ValueError("lr_schedule needs a learning_rate that is a number.")
        if lr_schedule is not None:
            learning_rate = PiecewiseLinear(learning_rate, lr_schedule)
        if ema_momentum is not None:
            kwargs |= {"use_ema": True, "ema_momentum": ema_momentum}
        for name in RANGES.keys() & kwargs.keys():
            if kwargs[name] is not None:
                check_number(name, kwargs[name], *RANGES[name])
        super().__init__(learning_rate, **kwargs)
        if not bias_correction and not isinstance(self, keras.optimizers.Adam):
            raise ValueError(f"bias_correction: {type(self).__name__} has none, only Adam has.")
        if self.ema_overwrite_frequency:
            raise ValueError(
                f"ema_overwrite_frequency is {self.ema_overwrite_frequency}; expected None: averages "
                "enter the model by apply_ema_weights or the callback EvaluateAverages."
            )
        if lookahead is not None:
            lookahead = _period_and_step(lookahead)
        if skip_nonfinite and isinstance(self, keras.optimizers.Nadam):
            raise ValueError(
                "skip_nonfinite: Nadam multiplies its momentum up for all variables at once; take "
                "Adam or AdamW."
            )
        if not isinstance(lr_multipliers, dict | None):
            raise ValueError(
                f"lr_multipliers={shown(lr_multipliers)}: expected a dict of pattern -> factor."
            )
        self.lr_multipliers = {
            pattern: PiecewiseLinear(1.0, rate).written_points() if isinstance(rate, dict) else rate
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
        self._own_weights = None  # what the moving averages have taken the place of
        self._averages_at = None  # at which step that was
        self._in_fit = False  # whether it was within `fit`

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
                check_number(f"lr_multipliers: {shown(pattern)}", rate, 0.0, MOST_RATE)
                rate = float(rate)
            hits = fits("lr_multipliers", [pattern], paths)
            rates = [rate if hit else old for hit, old in zip(hits, rates, strict=True)]
        left_out = {
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
                decayed=bool(self.weight_decay) and not left_out["exclude_from_weight_decay"][i],
                adapted=self.layer_adaptation and not left_out["exclude_from_layer_adaptation"][i],
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
        """All of it: adds up micro-batches, or updates with what they add up to."""
        rate = ops.convert_to_tensor(self.learning_rate)
        if self.skip_nonfinite:
            finite = all_finite(grads)
            # a rate that is not finite tells each replica and each variable to stay
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
        """Adds the variables without a gradient: sums, slow weights and averages are of all."""
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
        either(is_last, update, add, [rate, *grads], [*trainable_variables, *self.variables])

    def _update(self, grads, variables, rate):
        if keras.backend.backend() != "tensorflow":
            grads = self._clip_gradients(grads)
        self._backend_update_step(grads, variables, rate)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """TensorFlow: only the sum over all replicas has the norm that is to be clipped."""
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
        """PyTorch: Adam for all variables to which nothing else is done, by its fused kernel.

        It goes once over memory, where one operation after the other goes many times. A compiler
        that is recording the step fuses them by itself.

        Args:
            pairs: of gradients and variables of their shapes, iterated once.
            learning_rate: a scalar tensor; with `skip_nonfinite` one that is not finite says that
                all stay as they are.

        Returns:
            list of those pairs that are not done.
        """
        is_adam = super().update_step.__func__ is keras.optimizers.Adam.update_step
        plain = is_adam and not (self.amsgrad or self.lookahead or self.use_ema)
        groups, others = {}, []
        for gradient, variable in pairs:
            plan = self._plan(variable)
            alone = plain and not (plan.lazy or plan.centralized or plan.adapted)
            alone = alone and self._get_variable_index(variable) not in self._absent
            if alone and may_be_fused(gradient, variable):
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
        """Updates one variable. On TensorFlow that is a `tf.Variable`.

        Args:
            gradient: None: only the slow weights and the average of the variable are updated.
        """
        if self.skip_nonfinite:
            with self._unchanged_unless(ops.isfinite(learning_rate), variable):
                self._update_variable(gradient, variable, learning_rate)
        else:
            self._update_variable(gradient, variable, learning_rate)

    @contextmanager
    def _unchanged_unless(self, condition, variable):
        """Within, a variable and all that is kept for it change only where the condition holds."""
        tables = self._tables(variable)
        before = [ops.copy(table) for table in tables]
        yield
        for table, old in zip(tables, before, strict=True):
            self.assign(table, where(condition, table, old))

    def _tables(self, variable):
        """A variable and all that is kept for it."""
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
            # its gradient is of earlier micro-batches, if it had any there
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
        """Decays a variable and lets the optimizer of Keras update it."""
        if plan.decayed:
            self.assign_sub(variable, ops.multiply(variable, rate * self.weight_decay))
        if not self.bias_correction:
            rate = rate / self._bias_correction(variable.dtype)
        if hasattr(super(), "_parallel_update_step"):  # PyTorch: fused operations, in place
            super()._parallel_update_step([gradient], [variable], rate)
        else:
            super().update_step(gradient, variable, rate)

    def _bias_correction(self, dtype):
        """What Adam multiplies the rate by (arXiv 1412.6980, end of section 2)."""
        step = ops.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = (ops.power(ops.cast(b, dtype), step) for b in (self.beta_1, self.beta_2))
        return ops.sqrt(1 - beta_2) / (1 - beta_1)

    def _change_rows(self, gradient, variable, rate, plan):
        """The same for the rows with a gradient; others are not touched."""
        own = super().update_step.__func__
        if own is keras.optimizers.Adam.update_step and not self.amsgrad:
            index = self._get_variable_index(variable)
            slots = [self._momentums[index], self._velocities[index]]
            alpha = rate * self._bias_correction(variable.dtype) if self.bias_correction else rate

            def adam(ids, rows):
                tables = [variable, *slots]
                old, m, v = (ops.take(table, ids, axis=0) for table in tables)
                m = m + (rows - m) * (1 - self.beta_1)
                v = v + (rows * rows - v) * (1 - self.beta_2)
                new = old - old * (rate * self.weight_decay) if plan.decayed else old
                new = new - m * alpha / (ops.sqrt(v) + self.epsilon)
                for table, values in zip(tables, (new, m, v), strict=True):
                    write_rows(self, table, ids, values)

        else:
            adam, slots = None, self._slots(variable)

        def whole(gradient):
            tables = [variable, *slots]
            before = [ops.copy(table) for table in tables]
            has_gradient = ops.any(ops.not_equal(gradient, 0), axis=1, keepdims=True)
            self._change(gradient, variable, rate, plan)
            for table, old in zip(tables, before, strict=True):
                self.assign(table, where(has_gradient, table, old))

        by_rows(gradient, adam, whole)

    def _slots(self, variable):
        """The tables that the optimizer of Keras keeps for a variable."""
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
        """Of the update, where Keras asks a schedule for the rate of the micro-batch."""
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    # What Keras does for these is done above

    def _apply_weight_decay(self, variables):
        pass

    def finalize_variable_values(self, var_list):
        """What `fit` calls when it ends, before callbacks may put the best weights back."""
        if self._in_fit and self.averages_are_in:
            self.reset_old_weights()

    # The moving average

    @property
    def averages_are_in(self):
        """Whether the variables are their moving averages: put there, and not changed since."""
        if self._own_weights is None or self._averages_at != self._step():
            return False
        put_in = self._model_variables_moving_average if self._step() else self._own_weights
        return all(map(_equal, self._trainable_variables, put_in))

    def _step(self):
        return int(ops.convert_to_numpy(self._iterations))

    @contextmanager
    def averaged_weights(self):
        """Within, the variables have the values of their moving averages.

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
        """Within, the variables have the values that training goes on from."""
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
        """Puts the moving averages into the variables; `reset_old_weights` takes them out.

        A file of the model that is saved in between has both: the averages as its weights and,
        with the state of the optimizer, the variables' own values. So when it is loaded,
        `reset_old_weights`, or `fit` with `EvaluateAverages`, goes on from these.

        Args:
            in_fit: whether the end of `fit` takes them out, too.

        Raises:
            ValueError: there are none, or they are in already.
        """
        if not self.use_ema or not self.built:
            raise ValueError("There is no moving average yet: give ema_momentum, and train.")
        if self.averages_are_in:
            raise ValueError("The moving averages are in the variables already.")
        self._own_weights = [ops.convert_to_numpy(v) + 0 for v in self._trainable_variables]
        self._averages_at, self._in_fit = self._step(), in_fit
        if int(ops.convert_to_numpy(self.iterations)):
            fill(self._trainable_variables, self._model_variables_moving_average)

    def reset_old_weights(self):
        """Puts back what `apply_ema_weights` took out.

        Raises:
            ValueError: they are not in, or the model was trained since.
        """
        if not self.averages_are_in:
            raise ValueError("The moving averages are not in the variables.")
        for variable, own in zip(self._trainable_variables, self._own_weights, strict=True):
            variable.assign(own)
        self._own_weights = None

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.averages_are_in:
            for i, own in enumerate(self._own_weights):
                store[f"{OWN_WEIGHTS}{i}"] = own

    def load_own_variables(self, store):
        # Keras' store of HDF5 cannot be iterated
        values = {name: store[name] for name in store.keys()}  # noqa: SIM118
        own = {name: values.pop(name) for name in list(values) if name.startswith(OWN_WEIGHTS)}
        super().load_own_variables(values)
        self._own_weights = None
        if self.built and len(own) == len(self._trainable_variables):
            self._own_weights = [np.array(own[f"{OWN_WEIGHTS}{i}"]) for i in range(len(own))]
            self._averages_at, self._in_fit = self._step(), False


def _period_and_step(lookahead):
    match lookahead:
        case [Real() as period, Real() as step] if (
            not isinstance(period, bool) and int(period) == period >= 1 and 0 < step <= 1
        ):
            return int(period), float(step)
    raise ValueError(
        f"lookahead={lookahead!r}: expected a period of 1 update or more and a step above 0, at "
        "most 1."
    )


def _equal(x, y):
    x, y = (np.asarray(ops.convert_to_numpy(value), "float32") for value in (x, y))
    return np.array_equal(x, y, equal_nan=True)


def _patterns(patterns):
    return None if patterns is None else [patterns] if isinstance(patterns, str) else list(patterns)


def fits(argument, patterns, paths):
    """For each path, whether one of the patterns fits; each pattern must fit somewhere."""
    fitting = [search(argument, pattern, paths, ignore_case=True) for pattern in patterns]
    for pattern, hits in zip(patterns, fitting, strict=True):
        if not any(hits):
            some = ", ".join(paths[:: max(1, len(paths) // 8)])
            raise ValueError(f"{argument}: {pattern!r} fits no variable. There are {some}.")
    return [any(column) for column in zip(*fitting, strict=True)] or [False] * len(paths)


@cache
def extend(base):
    """A class of Keras optimizers with the options of `Extended`.

    Args:
        base: a subclass of `keras.optimizers.Optimizer`.

    Returns:
        A subclass of it. Those of Keras' own come with this module, so that a `.keras` file
        with one loads anywhere; another must be extended before its files are loaded.
    """
    if isinstance(base, type) and issubclass(base, Extended):
        return base
    if not (isinstance(base, type) and issubclass(base, keras.optimizers.Optimizer)):
        raise ValueError(f"extend takes a class of Keras optimizers, not {base!r}.")
    doc = f"`keras.optimizers.{base.__name__}` with the options of `Extended`."
    own = base
    if keras.backend.backend() == "torch" and base.__module__.startswith("keras."):
        own = type(base())  # PyTorch has faster classes behind these, which only instances show
    extended = type(base.__name__, (Extended, own), {"__doc__": doc, "__module__": __name__})
    return keras.saving.register_keras_serializable(PACKAGE)(extended)


SGD = extend(keras.optimizers.SGD)
Adam = extend(keras.optimizers.Adam)
AdamW = extend(keras.optimizers.AdamW)
Adafactor = extend(keras.optimizers.Adafactor)
Lion = extend(keras.optimizers.Lion)


def Lookahead(inner, sync_period=5, slow_step=0.5):
    """A Keras optimizer (not used yet) with Lookahead (arXiv 1907.08610).

    Args:
        inner: an instance, extended or not.
        sync_period: updates between two moves of the slow weights.
        slow_step: how much of the way they go.

    Returns:
        A new optimizer.

    Example:
        >>> optimizer = Lookahead(keras.optimizers.AdamW(1e-3), sync_period=5, slow_step=0.5)
    """
    return _with(inner, lookahead=(sync_period, slow_step))


def Lazy(inner, patterns=("embedding",)):
    """A Keras optimizer (not used yet) that leaves rows without a gradient alone.

    Args:
        inner: an instance, extended or not.
        patterns: which variables have rows, by their paths.

    Returns:
        A new optimizer.
    """
    return _with(inner, lazy=patterns)


def _with(inner, **options):
    if not isinstance(inner, keras.optimizers.Optimizer) or inner.built:
        raise ValueError(f"expected an optimizer of Keras that is not built yet, not {inner!r}.")
    if isinstance(inner, keras.optimizers.LossScaleOptimizer):
        raise ValueError("Put the loss scaling around it: LossScaleOptimizer(Lookahead(inner)).")
    # PyTorch has classes of its own behind those of Keras
    base = next(c for c in type(inner).__mro__ if ".backend." not in c.__module__)
    return extend(base).from_config(inner.get_config() | options)
