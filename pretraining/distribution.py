"""Many devices and many hosts: who holds which part of the weights and of the batch.

Everything that depends on the number of devices is here. A script opens `scope` around building,
compiling and fitting, asks `hosts` which rows of the global batch to read, and gives `fit` what
`make_dataset` makes of its batches:

    with distribution.scope(settings):
        model = ...
        model.compile(...)
        examples = Examples(directory, "mlm", batch_size, *distribution.hosts())
        model.fit(distribution.make_dataset(examples.from_step, start), ...)

The engines are Keras' own: `keras.distribution` on JAX, `tf.distribute` on TensorFlow. A model
trains alike on any number of devices as long as the global batch is the same, up to the order in
which numbers are added.

Dropout: on JAX the random numbers belong to the global batch, so they, too, are the same on any
number of devices. On TensorFlow each replica draws masks for its own rows, and runs on different
numbers of devices differ.
"""

import contextlib
import re

import keras
import numpy as np

DATA, MODEL = "data", "model"

# How the variables of a Transformer are split over the devices of the axis `MODEL`, by the ends of
# their paths: Shoeybi et al., "Megatron-LM", arXiv 1909.08053, section 3. A device holds some
# heads and some units of the feed-forward layer: what leads to them is split by columns, what
# leads back by rows, and only the sums at the end of the two are exchanged.
RULES = (
    (r"/(attention|cross)/(query|key|value)/kernel", (None, MODEL)),
    (r"/(attention|cross)/(query|key|value)/bias", (MODEL,)),
    (r"relative_bias/embeddings", (None, MODEL)),
    (r"/ffn/(input|gate)/kernel", (None, MODEL)),
    (r"/ffn/(input|gate)/bias", (MODEL,)),
    (r"/(attention|cross|ffn)/output/kernel", (MODEL, None)),
    (r"(token_embedding|lm_head)/embeddings", (MODEL, None)),
    (r"lm_bias/beta", (MODEL,)),
    # whole on every device
    (r"/(attention|cross|ffn)/output/bias", None),
    (r"/attention/input/(kernel|bias)", None),  # of a gated attention unit: it has one head
    (r"/attention/(query|key)_scale/(gamma|beta)", None),
    (r"norm/(gamma|beta|\w+_dense/kernel)", None),
    (r"(position|segment)_embedding/embeddings", None),
    (r"(embedding_projection|lm_dense|pooler|nsp|discriminator_\w+)/(kernel|bias)", None),
    (r"seed_generator_state", None),
)


def layout_of(path, shape, model_parallel):
    """How a variable is split.

    Args:
        path: of the variable.
        shape: of the variable.
        model_parallel: devices that share one copy of the model.

    Returns:
        For each axis, None or `"model"`.

    Raises:
        ValueError: no rule, or more than one, is about the path; or an axis does not divide.

    Example:
        >>> layout_of("block_0/ffn/input/kernel", (768, 3072), 4)
        (None, 'model')
    """
    whole = (None,) * len(shape)
    if not shape:
        return whole
    found = [(rule, axes) for rule, axes in RULES if re.search(f"({rule})$", path)]
    if len(found) != 1:
        said = "no rule says" if not found else f"{[rule for rule, _ in found]} all say"
        raise ValueError(
            f"{path} {tuple(shape)}: {said} how it is split over model_parallel={model_parallel} "
            "devices. Give it one row in RULES of pretraining/distribution.py."
        )
    axes = found[0][1] or whole
    for axis, name in enumerate(axes):
        if name and shape[axis] % model_parallel:
            raise ValueError(
                f"{path} {tuple(shape)}: axis {axis} does not divide by "
                f"model_parallel={model_parallel}. Choose a model_parallel that divides it, or "
                "change the size (a vocabulary may be filled up with unused tokens)."
            )
    return axes


def check(transformer, model_parallel):
    """Whether a model can be split over so many devices, before any weights are made for them.

    Args:
        transformer: a `bert4keras_lite.models.Transformer`.
        model_parallel: devices that share one copy of the model.

    Returns:
        Path -> axes of every variable of the model, as from `layout_of`.

    Raises:
        ValueError: as `layout_of`; or a device would hold a part of a head.
    """
    heads = transformer.config.num_attention_heads
    if heads % model_parallel:
        raise ValueError(
            f"num_attention_heads={heads} does not divide by model_parallel={model_parallel}: "
            "each device holds whole heads."
        )
    return {
        variable.path: layout_of(variable.path, variable.shape, model_parallel)
        for variable in transformer.model.variables
    }


class ModelParallel(keras.distribution.ModelParallel):
    """Keras' model parallelism with `layout_of` for a layout map.

    Keras leaves a variable that no pattern fits on every device without a word, and one that does
    not divide to JAX, which does not name it. (Slots of optimizers never ask: Keras lays them out
    as their variables.)
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
    """Within, models are built, compiled and fitted on all devices that the settings name.

    Args:
        settings: has
            `devices`: how many, of all hosts; `"auto"`: all there are.
            `data_parallel`: parts into which a batch is cut; None: `devices / model_parallel`.
            `model_parallel`: devices that share one copy of the model (JAX).
            `hosts`: processes that train together, each started with the same settings but for
            `process_id`.
            `coordinator`: `"address:port"` of the first process, or the addresses of all,
            separated by commas, which TensorFlow needs. None: the cluster manager tells (a TPU
            pod on JAX, `TF_CONFIG` on TensorFlow).
            `process_id`: 0 to `hosts - 1`; None: the cluster manager tells.

    Raises:
        ValueError: the machine or the backend has no such devices.
    """
    with ENGINES[keras.backend.backend()](settings):
        yield


@contextlib.contextmanager
def jax_scope(settings):
    import jax

    if settings.hosts > 1 and not jax.distributed.is_initialized():
        # before anything asks for a device
        keras.distribution.initialize(settings.coordinator, settings.hosts, settings.process_id)
    if jax.process_count() != settings.hosts:
        raise ValueError(
            f"hosts={settings.hosts}, but JAX finds {jax.process_count()}: give coordinator and "
            "process_id, or leave both to the cluster manager."
        )
    data, model = mesh_shape(settings, len(jax.devices()))
    if data * model == 1:
        yield
        return
    with jax_distribution(data, model).scope():
        yield


def jax_distribution(data, model):
    """The first `data * model` devices as a Keras distribution."""
    import jax
    from jax.experimental import mesh_utils

    # neighbours on the network are neighbours on the mesh
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
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        count, _ = mesh_shape(settings, len(devices))
        if count == 1:
            yield
            return
        # virtual devices share their memory, and TensorFlow's collectives have one size a process
        reduction = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
        strategy = tf.distribute.MirroredStrategy(devices[:count], reduction)
    mesh_shape(settings, strategy.num_replicas_in_sync)
    with strategy.scope():
        yield


def many_workers(settings):
    import tensorflow as tf

    class MultiWorker(tf.distribute.MultiWorkerMirroredStrategy):
        def reduce(self, reduce_op, value, axis):
            """What Keras asks of it, and TensorFlow cannot give.

            To learn the shapes of a batch, Keras wants the mean of the whole structure: one
            replica's part tells as much. And it wants the mean of logs along an axis that these,
            being scalars, do not have.
            """
            if isinstance(value, tuple):
                return tf.nest.map_structure(lambda x: self.experimental_local_results(x)[0], value)
            one = self.experimental_local_results(value)[0]
            return super().reduce(reduce_op, value, axis if one.shape.rank else None)

    return MultiWorker(workers(settings))


def workers(settings):
    """TensorFlow's description of the cluster."""
    import tensorflow as tf

    resolvers = tf.distribute.cluster_resolver
    if settings.coordinator is None:
        resolver = resolvers.TFConfigClusterResolver()
        found = len(resolver.cluster_spec().as_dict().get("worker", ()))
    else:
        addresses = settings.coordinator.split(",")
        found = len(addresses)
        resolver = resolvers.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": addresses}),
            task_type="worker",
            task_id=settings.process_id,
            rpc_layer="grpc",
        )
    if found != settings.hosts or resolver.task_id is None:
        raise ValueError(
            f"hosts={settings.hosts}: TensorFlow needs the addresses of all of them as coordinator "
            "(address:port, separated by commas) and the number of this one as process_id, or "
            f"both in TF_CONFIG. There are {found} addresses."
        )
    return resolver


@contextlib.contextmanager
def torch_scope(settings):
    if settings.hosts > 1 or mesh_shape(settings, 1) != (1, 1):
        raise ValueError("More than one device needs the JAX or the TensorFlow backend.")
    yield


ENGINES = {"jax": jax_scope, "tensorflow": tensorflow_scope, "torch": torch_scope}


def mesh_shape(settings, found):
    """How many parts of the batch, and of the model, the settings ask for.

    Args:
        settings: see `scope`.
        found: devices there are.

    Raises:
        ValueError: they do not multiply to `devices`, or there are not so many.
    """
    devices = found if settings.devices == "auto" else int(settings.devices)
    model = settings.model_parallel or 1
    data = settings.data_parallel or devices // model
    if settings.devices == "auto" and settings.data_parallel:
        devices = data * model
    if data * model != devices or not 1 <= devices <= found:
        raise ValueError(
            f"devices={settings.devices}, data_parallel={settings.data_parallel}, "
            f"model_parallel={settings.model_parallel}: expected data_parallel * model_parallel "
            f"= devices, of which there are {found}."
        )
    if settings.hosts > 1 and devices != found:
        raise ValueError(
            f"devices={settings.devices}: {settings.hosts} hosts have {found}, and all take part."
        )
    return data, model


def hosts():
    """How the global batch is dealt out to processes, within `scope`.

    Returns:
        `(hosts, host)`: into how many equal parts it is cut, and which of them this process
        reads. Processes that share a copy of the model read the same part.
    """
    return readers()[:2]


def readers():
    """`(hosts, host, devices)`: see `hosts`, and among how many devices a host's part is dealt out."""
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

    rows = {}  # of the mesh, by process
    for row, devices in enumerate(mesh.backend_mesh.devices):
        for device in np.ravel(devices):
            rows.setdefault(device.process_index, set()).add(row)
    groups = sorted({tuple(sorted(some)) for some in rows.values()})
    if sum(map(len, groups)) != len(mesh.devices):
        raise ValueError(
            f"The hosts' shares of the batch overlap: {groups}. Choose a model_parallel that "
            "divides the number of devices of a host, or is a multiple of it."
        )
    mine = tuple(sorted(rows[jax.process_index()]))
    return len(groups), groups.index(mine), len(mine)


def tensorflow_strategy():
    """The strategy in whose scope we are, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy() if tf.distribute.has_strategy() else None


def make_dataset(from_step, step):
    """What `fit` takes, from this host's rows of each global batch.

    Args:
        from_step: `Examples.from_step`, or another function from a step to a fresh iterator of
            `(inputs, targets, sample_weights)` of arrays, whose batches have one size.
        step: the first to train.

    Returns:
        A generator, or under a strategy of TensorFlow a distributed dataset.

    Raises:
        ValueError: the rows do not divide by the devices that they are for.
    """
    first = next(from_step(step))
    hosts, _, devices = readers()
    rows = len(keras.tree.flatten(first)[0])
    if rows % devices:
        raise ValueError(
            f"A global batch of {rows * hosts} rows does not divide by the {devices * hosts} "
            f"devices that share it: choose a multiple of {devices * hosts}."
        )
    strategy = tensorflow_strategy()
    if strategy is None:
        return (batch for batch in from_step(step))  # Keras asks for a generator by its type

    import tensorflow as tf

    def parts():  # begins anew each time: Keras throws the first away once it has built the model
        for batch in from_step(step):
            for i in range(0, rows, rows // devices):
                yield keras.tree.map_structure(lambda x, i=i: x[i : i + rows // devices], batch)

    signature = keras.tree.map_structure(
        lambda x: tf.TensorSpec((rows // devices, *x.shape[1:]), x.dtype), first
    )

    # Left to Keras, each worker's rows are cut for all replicas of all workers, and it trains
    # several steps on the cuttings of one batch.
    def replicas(context):
        if context.num_input_pipelines > hosts:
            raise ValueError(
                "A TPU slice of several hosts needs the JAX backend: under TensorFlow one process "
                "would have to read for all of them."
            )
        return tf.data.Dataset.from_generator(parts, output_signature=signature).prefetch(2)

    return strategy.distribute_datasets_from_function(replicas)
