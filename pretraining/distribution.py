"""Distributed training: how weights and batches are split over devices and hosts.

This module has everything that depends on the number of devices. A script builds, compiles and
fits within `scope`, asks `hosts` which rows of the global batch to read, and passes the result of
`make_dataset` to `fit`:

    with distribution.scope(DeviceSettings(model_parallel=2)):
        model = ...
        model.compile(...)
        examples = Examples(directory, "mlm", batch_size, *distribution.hosts())
        model.fit(distribution.make_dataset(examples.from_step, start), ...)

The implementation is Keras': `keras.distribution` on JAX, `tf.distribute` on TensorFlow. With the
same global batch, results are the same on any number of devices, up to the order of summation.

Dropout: on JAX the random numbers belong to the global batch, so they are the same on any number of
devices, too. On TensorFlow each replica draws masks for its own rows, so runs on different numbers
of devices differ.
"""

import contextlib
import re
from dataclasses import dataclass

import keras
import numpy as np

from bert4keras_lite.layers import FeedForward
from bert4keras_lite.layers.blocks import ATTENTIONS

__all__ = [
    "DeviceSettings",
    "check",
    "hosts",
    "jax_distribution",
    "layout_of",
    "make_dataset",
    "readers",
    "scope",
]

DATA, MODEL = "data", "model"


@dataclass(frozen=True)
class DeviceSettings:
    """The devices of a training run.

    Args:
        devices: number of devices of all hosts; `"auto"` (default) for all available ones.
        data_parallel: number of parts of a batch. Default None: `devices / model_parallel`.
        model_parallel: number of devices that share one copy of the model (JAX). Default None: 1.
        hosts: number of processes that train together, each started with the same settings except
            for `process_id`. Default 1.
        coordinator: `"address:port"` of the first process, or, for TensorFlow, of all, separated by
            commas. Default None: from the cluster manager (a TPU pod on JAX, `TF_CONFIG` on
            TensorFlow).
        process_id: 0 to `hosts - 1`. Default None: from the cluster manager.
    """

    devices: int | str = "auto"
    data_parallel: int | None = None
    model_parallel: int | None = None
    hosts: int = 1
    coordinator: str | None = None
    process_id: int | None = None


def rules_of(branch, cls):
    """Yields the rules of a branch of the blocks, from the `split` of its layer class."""
    for part, split in cls.split.items():
        path = f"/{branch}/{part}"
        if split == "whole":
            yield rf"{path}/\w+", None
        else:
            by_columns = split == "columns"
            yield f"{path}/kernel", (None, MODEL) if by_columns else (MODEL, None)
            yield f"{path}/bias", (MODEL,) if by_columns else None


# How the variables of a Transformer are split over the devices of the axis `MODEL`, by patterns of
# the ends of their paths: Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3. A device
# holds some heads and some units of the feed-forward layer. Their input projections are split by
# columns, their output projections by rows, and only the sums after the latter are exchanged.
RULES = (
    *dict.fromkeys(
        rule for cls in ATTENTIONS.values() for rule in rules_of("(attention|cross)", cls)
    ),
    *rules_of("ffn", FeedForward),
    (r"relative_bias/embeddings", (None, MODEL)),
    (r"(token_embedding|lm_head)/embeddings", (MODEL, None)),
    (r"lm_bias/beta", (MODEL,)),
    # whole on every device
    (r"norm/(gamma|beta|\w+_dense/kernel)", None),
    (r"(position_embedding|segment_embedding|relative_vectors)/embeddings", None),
    (r"(embedding_projection|lm_dense|pooler|nsp|discriminator_\w+)/(kernel|bias)", None),
    (r"seed_generator_state", None),
)


def layout_of(path, shape, model_parallel):
    """Returns the layout of a variable under model parallelism.

    Args:
        path: path of the variable.
        shape: shape of the variable.
        model_parallel: number of devices that share one copy of the model.

    Returns:
        A tuple with None or `"model"` for each axis.

    Raises:
        ValueError: not exactly one rule matches the path, or an axis is not divisible by
            `model_parallel`.

    Example:
        >>> layout_of("block_0/ffn/input/kernel", (768, 3072), 4)
        (None, 'model')
    """
    whole = (None,) * len(shape)
    if not shape:
        return whole
    matches = [(rule, axes) for rule, axes in RULES if re.search(f"({rule})$", path)]
    if len(matches) != 1:
        which = "no rule says" if not matches else f"{[rule for rule, _ in matches]} all say"
        raise ValueError(
            f"{path} {tuple(shape)}: {which} how it is split over model_parallel={model_parallel}"
            " devices. Name it in the split of its layer, or in RULES of"
            " pretraining/distribution.py."
        )
    axes = matches[0][1] or whole
    for axis, name in enumerate(axes):
        if name and shape[axis] % model_parallel:
            raise ValueError(
                f"{path} {tuple(shape)}: axis {axis} is not divisible by "
                f"model_parallel={model_parallel}. Choose a model_parallel that divides it, or "
                "change the size (a vocabulary may be padded with unused tokens)."
            )
    return axes


def check(transformer, model_parallel):
    """Checks that a model can be split over a number of devices, before its weights are created.

    Args:
        transformer: a `bert4keras_lite.models.Transformer`.
        model_parallel: number of devices that share one copy of the model.

    Returns:
        A dict path -> axes of all variables of the model, see `layout_of`.

    Raises:
        ValueError: see `layout_of`; or the number of heads is not divisible by `model_parallel`.
    """
    config = transformer.config
    for name, heads in (
        ("num_attention_heads", config.num_attention_heads),
        ("num_key_value_heads", config.kv_heads),
    ):
        if heads % model_parallel:
            raise ValueError(
                f"{name}={heads} is not divisible by model_parallel={model_parallel}: each device "
                "holds whole heads."
            )
    return {
        variable.path: layout_of(variable.path, variable.shape, model_parallel)
        for variable in transformer.model.variables
    }


class ModelParallel(keras.distribution.ModelParallel):
    """Keras' `ModelParallel` with `layout_of` instead of a layout map, for better errors.

    Keras silently replicates a variable that matches no pattern, and passes one that is not
    divisible to JAX, whose error does not name it. (Optimizer slots have the layout of their
    variables and are not looked up.)
    """

    def __init__(self, mesh):
        super().__init__(
            layout_map=keras.distribution.LayoutMap(mesh),
            batch_dim_name=DATA,
            auto_shard_dataset=False,
        )

    def get_variable_layout(self, variable):
        if getattr(variable, "_layout", None) is not None:
            return variable._layout
        axes = layout_of(variable.path, variable.shape, self.device_mesh.shape[1])
        return keras.distribution.TensorLayout(axes, self.device_mesh)


@contextlib.contextmanager
def scope(settings):
    """Context in which models are built, compiled and fitted on the devices of `DeviceSettings`.

    Raises:
        ValueError: the machine or the backend does not have these devices.
    """
    with ENGINES[keras.backend.backend()](settings):
        yield


@contextlib.contextmanager
def jax_scope(settings):
    import jax

    if settings.hosts > 1 and not jax.distributed.is_initialized():
        # Must come before the first use of a device.
        keras.distribution.initialize(settings.coordinator, settings.hosts, settings.process_id)
    if jax.process_count() != settings.hosts:
        raise ValueError(
            f"hosts={settings.hosts}, but JAX finds {jax.process_count()}: pass coordinator and "
            "process_id, or leave both to the cluster manager."
        )
    data, model = mesh_shape(settings, len(jax.devices()))
    if data * model == 1:
        yield
        return
    with jax_distribution(data, model).scope():
        yield


def jax_distribution(data, model):
    """Returns a Keras distribution over the first `data * model` devices."""
    import jax
    from jax.experimental import mesh_utils

    # Devices that are neighbours in the network become neighbours in the mesh.
    devices = mesh_utils.create_device_mesh((data, model), jax.devices()[: data * model])
    names = np.vectorize(lambda device: f"{device.platform}:{device.id}", otypes="O")(devices)
    if model == 1:
        mesh = keras.distribution.DeviceMesh((data,), [DATA], names[:, 0])
        return keras.distribution.DataParallel(mesh, auto_shard_dataset=False)
    return ModelParallel(keras.distribution.DeviceMesh((data, model), [DATA, MODEL], names))


@contextlib.contextmanager
def tensorflow_scope(settings):
    import tensorflow as tf

    if (settings.model_parallel or 1) > 1:
        raise ValueError(f"model_parallel={settings.model_parallel} needs the JAX backend.")
    if settings.hosts > 1:
        strategy = many_workers(settings)
    elif tf.config.list_physical_devices("TPU"):
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect("local")
        strategy = tf.distribute.TPUStrategy(resolver)
    else:
        device_type = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        devices = [device.name for device in tf.config.list_logical_devices(device_type)]
        count, _ = mesh_shape(settings, len(devices))
        if count == 1:
            yield
            return
        # TensorFlow's collectives have one group size in a process; virtual CPU devices share their
        # memory and need none.
        reduction = tf.distribute.ReductionToOneDevice() if device_type == "CPU" else None
        strategy = tf.distribute.MirroredStrategy(devices[:count], reduction)
    mesh_shape(settings, strategy.num_replicas_in_sync)
    with strategy.scope():
        yield


def many_workers(settings):
    import tensorflow as tf

    class MultiWorker(tf.distribute.MultiWorkerMirroredStrategy):
        def reduce(self, reduce_op, value, axis):
            """Reduces what Keras asks for and TensorFlow does not support.

            To infer the shapes of a batch, Keras reduces a whole structure: one replica's part has
            the same shapes. It also reduces logs along an axis, although they are scalars.
            """
            if isinstance(value, tuple):
                return tf.nest.map_structure(lambda x: self.experimental_local_results(x)[0], value)
            local = self.experimental_local_results(value)[0]
            return super().reduce(reduce_op, value, axis if local.shape.rank else None)

    return MultiWorker(workers(settings))


def workers(settings):
    """Returns TensorFlow's cluster resolver for the settings."""
    import tensorflow as tf

    resolvers = tf.distribute.cluster_resolver
    if settings.coordinator is None:
        resolver = resolvers.TFConfigClusterResolver()
        count = len(resolver.cluster_spec().as_dict().get("worker", ()))
    else:
        addresses = settings.coordinator.split(",")
        count = len(addresses)
        resolver = resolvers.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": addresses}),
            task_type="worker",
            task_id=settings.process_id,
            rpc_layer="grpc",
        )
    if count != settings.hosts or resolver.task_id is None:
        raise ValueError(
            f"hosts={settings.hosts}: TensorFlow needs the addresses of all of them as coordinator "
            "(address:port, separated by commas) and the number of this one as process_id, or "
            f"both in TF_CONFIG. There are {count} addresses."
        )
    return resolver


@contextlib.contextmanager
def torch_scope(settings):
    if settings.hosts > 1 or mesh_shape(settings, 1) != (1, 1):
        raise ValueError("More than one device needs the JAX or the TensorFlow backend.")
    yield


ENGINES = {"jax": jax_scope, "tensorflow": tensorflow_scope, "torch": torch_scope}


def mesh_shape(settings, available):
    """Returns `(data, model)`, the numbers of parts of a batch and of the model.

    Args:
        settings: `DeviceSettings`.
        available: number of available devices.

    Raises:
        ValueError: their product is not `devices`, or there are fewer devices.
    """
    devices = available if settings.devices == "auto" else int(settings.devices)
    model = settings.model_parallel or 1
    data = settings.data_parallel or devices // model
    if settings.devices == "auto" and settings.data_parallel:
        devices = data * model
    if data * model != devices or not 1 <= devices <= available:
        raise ValueError(
            f"devices={settings.devices}, data_parallel={settings.data_parallel}, "
            f"model_parallel={settings.model_parallel}: expected data_parallel * model_parallel "
            f"= devices, at most {available}."
        )
    if settings.hosts > 1 and devices != available:
        raise ValueError(
            f"devices={settings.devices}: expected {available}, all devices of the"
            f" {settings.hosts} hosts."
        )
    return data, model


def hosts():
    """Returns how the global batch is split among processes; to be called within `scope`.

    Returns:
        `(hosts, host)`: the number of equal parts, and the index of the part that this process
        reads. Processes that share a copy of the model read the same part.
    """
    return readers()[:2]


def readers():
    """Returns `(hosts, host, devices)`: see `hosts`; a host's part is split among `devices`."""
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
        return (1, 0, 1) if distribution is None else readers_of_mesh(distribution.device_mesh)
    strategy = tensorflow_strategy()
    if strategy is None:
        return 1, 0, 1
    resolver, count = strategy.cluster_resolver, strategy.num_replicas_in_sync
    if getattr(resolver, "task_type", None) != "worker":
        return 1, 0, count
    workers = resolver.cluster_spec().num_tasks("worker")
    return workers, resolver.task_id, count // workers


def readers_of_mesh(mesh):
    import jax

    rows = {}  # process -> its rows of the mesh
    for row, devices in enumerate(mesh.backend_mesh.devices):
        for device in np.ravel(devices):
            rows.setdefault(device.process_index, set()).add(row)
    groups = sorted({tuple(sorted(group)) for group in rows.values()})
    if sum(map(len, groups)) != len(mesh.devices):
        raise ValueError(
            f"The hosts' parts of the batch overlap: {groups}. Choose a model_parallel that "
            "divides the number of devices of a host, or is a multiple of it."
        )
    mine = tuple(sorted(rows[jax.process_index()]))
    return len(groups), groups.index(mine), len(mine)


def tensorflow_strategy():
    """Returns the strategy of the current scope, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy() if tf.distribute.has_strategy() else None


def make_dataset(from_step, step):
    """Returns a dataset for `fit`, from this host's rows of each global batch.

    Args:
        from_step: `Examples.from_step`, or another function step -> new iterator of
            `(inputs, targets, sample_weights)` of arrays, with batches of one size.
        step: the first step to train.

    Returns:
        A generator; or a distributed dataset in the scope of a strategy of TensorFlow.

    Raises:
        ValueError: the number of rows is not divisible by the number of devices.
    """
    first = next(from_step(step))
    hosts, _, devices = readers()
    rows = len(keras.tree.flatten(first)[0])
    if rows % devices:
        raise ValueError(
            f"A global batch of {rows * hosts} rows is not divisible by the {devices * hosts} "
            f"devices that share it: choose a multiple of {devices * hosts}."
        )
    strategy = tensorflow_strategy()
    if strategy is None:
        return (batch for batch in from_step(step))  # Keras checks for the type of a generator

    import tensorflow as tf

    def parts():  # restartable: Keras discards the first iterator after building the model
        for batch in from_step(step):
            for i in range(0, rows, rows // devices):
                yield keras.tree.map_structure(lambda x, i=i: x[i : i + rows // devices], batch)

    signature = keras.tree.map_structure(
        lambda x: tf.TensorSpec((rows // devices, *x.shape[1:]), x.dtype), first
    )

    # Keras itself would split each worker's rows among all replicas of all workers, and train
    # several steps on parts of one batch.
    def replicas(context):
        if context.num_input_pipelines > hosts:
            raise ValueError(
                "A TPU slice of several hosts needs the JAX backend: under TensorFlow one process "
                "would have to read for all of them."
            )
        return tf.data.Dataset.from_generator(parts, output_signature=signature).prefetch(2)

    return strategy.distribute_datasets_from_function(replicas)
