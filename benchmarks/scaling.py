"""Collectives of a distributed training step, and a projection of its scaling on TPUs.

    python benchmarks/scaling.py --config bert_base_zh --mesh 2x4 --sequence-length 512

compiles the step of a recipe for virtual devices (`DATAxMODEL`), lists the collectives of the
compiled program, and compares them with those expected from the layout. From their bytes, the
model's FLOPs and published figures of chips, it computes a table of step times for 8 to 4096 TPU
cores.

THE TABLE IS A PROJECTION. No TPU was tried. It assumes arithmetic at a given utilization, ring
collectives at the full bandwidth of the interconnect, no latency, and no time for input:

    compute   FLOPs of a chip's rows / (peak * utilization)
    update    28 bytes a parameter (AdamW reads 4 and writes 3 floats) / memory bandwidth
    exchange  2 (n - 1) / n * bytes / interconnect bandwidth, of n chips
    step      compute + update + exchange, or, if the exchange overlaps with the computation,
              max(compute, exchange) + update

Efficiency is `compute / step`, the fraction of the utilization that is left. The compiled program
is that of the CPU compiler, which exchanges gradients before it sums those of a table that is used
twice (tied embeddings), and those of the input of queries, keys and values. Compilers for
accelerators may sum first, and so exchange less.
"""

import argparse
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert4keras_lite.arguments import complain, within
from bert4keras_lite.files import saving

# bytes of an element
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
SIZES |= {"s64": 8, "u64": 8, "f64": 8}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
CORES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
UPDATE_BYTES = 28
MAX_DEVICES = 4096  # of a process, in which each is a thread


@dataclass(frozen=True)
class Chip:
    """Published figures of one chip.

    Args:
        cores: number of cores.
        pod: number of chips on one interconnect.
        flops: peak FLOP/s in bfloat16.
        memory: bytes of its memory; GiB of a page are taken as GB.
        memory_bandwidth: bytes a second.
        interconnect: bytes a second that it sends, over all links together.
        source: source of the figures.
    """

    cores: int
    pod: int
    flops: float
    memory: float
    memory_bandwidth: float
    interconnect: float
    source: str


# The interconnect of v3, v4 and v5e is the "all-reduce bandwidth per pod" of the page, divided by
# the number of chips. That of v5p is 4800 Gbit/s; newer versions of its page give 1200 GB/s for
# both directions together. v2's page has no such table. Its row is from the paper, as quoted
# elsewhere; the four links of 496 Gbit/s were not checked against the paper. A v2 pod has 256
# chips. Its page says 512, which seems to be cores: the largest slice is v2-512, and these numbers
# are cores.
CHIPS = {
    "v2": Chip(
        2, 256, 46e12, 16e9, 700e9, 4 * 496e9 / 8,
        "Jouppi et al., A domain-specific supercomputer for training deep neural networks, 2020, "
        "https://doi.org/10.1145/3360307",
    ),
    "v3": Chip(
        2, 1024, 123e12, 32e9, 900e9, 340e12 / 1024, "https://docs.cloud.google.com/tpu/docs/v3",
    ),
    "v4": Chip(
        2, 4096, 275e12, 32e9, 1200e9, 1.1e15 / 4096, "https://docs.cloud.google.com/tpu/docs/v4",
    ),
    "v5e": Chip(
        1, 256, 197e12, 16e9, 819e9, 51.2e12 / 256, "https://docs.cloud.google.com/tpu/docs/v5e",
    ),
    "v5p": Chip(
        2, 8960, 459e12, 95e9, 2765e9, 4800e9 / 8, "https://docs.cloud.google.com/tpu/docs/v5p",
    ),
}  # fmt: skip


# The compiled program


@dataclass(frozen=True)
class Collective:
    """An instruction by which devices exchange arrays.

    Args:
        kind: one of `KINDS`.
        axis: axis of the mesh: `"data"`, `"model"` or `"both"`.
        way: part of the step: `"forward"`, `"backward"` or `"update"`.
        shapes: shapes of the arrays that a device receives.
        sizes: their sizes in bytes.
    """

    kind: str
    axis: str
    way: str
    shapes: tuple
    sizes: tuple

    @property
    def bytes(self):
        return sum(self.sizes)


def collectives(program, data, model):
    """Returns the collectives of a compiled program.

    Args:
        program: its text in XLA's HLO, as returned by JAX's `compiled.as_text()`.
        data, model: sizes of the mesh's axes.

    Returns:
        A list of `Collective`, in the order of the text.
    """
    kinds = "|".join(KINDS)
    instructions = []
    for line in program.splitlines():
        match = re.search(rf"= (\(.*?\)|\S+) ({kinds})\(", line)
        if not match:
            continue
        arrays = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
        shapes = tuple(tuple(int(n) for n in dims.split(",") if n) for _, dims in arrays)
        sizes = tuple(
            SIZES[dtype] * math.prod(s) for (dtype, _), s in zip(arrays, shapes, strict=True)
        )
        axis, way = axis_of(line, data, model), way_of(line)
        instructions.append(Collective(match[2], axis, way, shapes, sizes))
    return instructions


def way_of(line):
    """Returns the part of the step that an instruction belongs to, see `Collective`."""
    name = re.search(r'op_name="([^"]*)"', line)
    name = name[1] if name else ""
    return "backward" if "transpose(jvp" in name else "forward" if "jvp(" in name else "update"


def axis_of(line, data, model):
    """Returns the axis of the mesh along which a collective exchanges, see `Collective`."""
    devices = np.arange(data * model).reshape(data, model)
    rows, columns = (set(n) for n in np.nonzero(np.isin(devices, a_group(line))))
    if len(rows) == 1:
        return "model"
    return "data" if len(columns) == 1 else "both"


def a_group(line):
    """Returns one group of devices that exchange with each other, from any notation of HLO.

    `{{0,1},{2,3}}`; `[2,2]<=[4]` or `[2,2]<=[2,2]T(1,0)`: device numbers, reshaped, transposed,
    and split into groups; `mesh['a'=2,'b'=2] {'a'}`: groups along axes of a mesh, which may have an
    order of devices: `, device_ids=([2,2]T(1,0))`.
    """
    counted = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"
    listed = re.search(r"(?:replica_groups|source_target_pairs)=\{\{([\d,]+)\}", line)
    if listed:
        return numbers(listed[1])
    dealt = re.search(rf"replica_groups=\[(\d+),(\d+)\]<={counted}", line)
    if dealt:
        return device_numbers(dealt[3], dealt[4])[: int(dealt[2])]
    mesh = re.search(
        rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({counted}\))? \{{([^}}]*)\}}", line
    )
    axes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
    sizes = ",".join(axes.values())
    devices = device_numbers(mesh[2] or sizes, mesh[3]).reshape(numbers(sizes))
    along = tuple(slice(None) if f"'{axis}'" in mesh[4] else 0 for axis in axes)
    return devices[along].ravel()


def device_numbers(shape, order):
    devices = np.arange(math.prod(numbers(shape))).reshape(numbers(shape))
    return (devices.transpose(numbers(order)) if order else devices).ravel()


def numbers(text):
    return [int(n) for n in text.split(",")]


def compiled_step(settings, data, model, rows, length, predictions):
    """Compiles one training step as Keras does.

    Args:
        settings: `config.Settings`.
        data, model: sizes of the mesh's axes.
        rows: number of rows of a global batch.
        length: length of its sequences.
        predictions: number of predictions in a sequence, if only masked tokens are predicted.

    Returns:
        `(program, objective)`: the text of the program, and the `Objective`.
    """
    import jax
    import keras

    from pretraining import distribution, loop, objectives

    def array(name):
        return np.zeros((rows, predictions if name == "masked_positions" else length), "int32")

    def described(x):
        layout = keras.distribution.distribution().get_data_layout(x.shape).backend_layout
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout)

    with loop.precision(settings.precision), distribution.jax_distribution(data, model).scope():
        objective = objectives.build(**settings.part("model"))
        trained = objective.model
        trained.compile(loop.make_optimizer(**settings.part("optimizer")))
        inputs = {name: array(name) for name in objective.inputs}
        targets = inputs.get("masked_positions", array("targets"))
        batch = inputs, targets, targets.astype("float32")
        trained._symbolic_build(data_batch=batch)
        state = trained._get_jax_state(
            trainable_variables=True,
            non_trainable_variables=True,
            optimizer_variables=True,
            metrics_variables=True,
        )
        step = jax.jit(
            trained.train_step,
            donate_argnums=0,
            out_shardings=(None, trained._get_state_sharding_spec()),
        )
        compiled = step.lower(state, keras.tree.map_structure(described, batch)).compile()
    return compiled.as_text(), objective


def expected_bytes(objective, model, length):
    """Returns the expected bytes of gradients that a device exchanges along the data axis.

    These are its part of each variable, once; a table of tokens that is tied to the output layer
    twice (see above); of a table of positions, only the rows of positions that occur.

    Args:
        objective: an `Objective`.
        model: number of devices that share one copy of the model.
        length: length of the sequences.
    """
    from pretraining.distribution import layout_of

    tied = any(
        part.config.with_lm and part.config.tie_word_embeddings for part in objective.parts.values()
    )
    total = 0
    for variable in objective.model.trainable_variables:
        shape, size = variable.shape, np.dtype(variable.dtype).itemsize
        if variable.path.endswith("position_embedding/embeddings"):
            shape = min(length, shape[0]), shape[1]
        if tied and variable.path.endswith("token_embedding/embeddings"):
            size *= 2
        parts = model if any(layout_of(variable.path, variable.shape, model)) else 1
        total += math.prod(shape) * size // parts
    return total


# The projection


@dataclass(frozen=True)
class Step:
    """Seconds of the parts of one step, for a number of cores."""

    cores: int
    compute: float
    update: float
    exchange: float

    @property
    def plain(self):
        return self.compute + self.update + self.exchange

    @property
    def overlapped(self):
        return max(self.compute, self.exchange) + self.update


def project(chip, cores, flops_per_row, rows_per_core, gradient_bytes, parameters, utilization):
    """Projects the time of a data-parallel step; see the top of this file.

    Args:
        chip: a `Chip`.
        cores: number of cores.
        flops_per_row: FLOPs of one sequence, forward and backward.
        rows_per_core: number of sequences of a batch on each core.
        gradient_bytes: bytes that each chip exchanges.
        parameters: number of parameters of the model, updated on each chip.
        utilization: fraction of the peak that the arithmetic reaches.

    Returns:
        A `Step`, or None if a pod has fewer chips.
    """
    chips = cores // chip.cores
    if chips > chip.pod:
        return None
    return Step(
        cores,
        flops_per_row * rows_per_core * chip.cores / (chip.flops * utilization),
        UPDATE_BYTES * parameters / chip.memory_bandwidth,
        2 * (chips - 1) / chips * gradient_bytes / chip.interconnect,
    )


# Command line


def parser():
    parser = argparse.ArgumentParser(
        description=(
            "Lists what devices exchange in a training step, and projects its time on TPUs. "
            "All other flags are settings, as in pretraining.train."
        ),
    )
    parser.add_argument("--config", default="tiny", help="a YAML file or a recipe")
    parser.add_argument("--mesh", default="2x1", help="DATAxMODEL virtual devices (default 2x1)")
    parser.add_argument("--sequence-length", type=within(8, 1 << 24), default=512)
    parser.add_argument(
        "--predictions", type=within(1, 1 << 24), help="masked tokens of a sequence (15 %%)"
    )
    parser.add_argument(
        "--rows-per-core", type=within(1, 1 << 20), default=32, help="sequences on a core (32)"
    )
    parser.add_argument(
        "--utilization", type=within(0.001, 1.0), default=0.45, help="fraction of the peak (0.45)"
    )
    parser.add_argument("--plot", help="file for a plot of efficiency by cores; needs matplotlib")
    return parser


def main(arguments=None):
    """Runs the command line, see the top of this file; returns the exit status."""
    options, flags = parser().parse_known_args(arguments)
    try:
        data, model = mesh_of(options.mesh)
        os.environ["KERAS_BACKEND"] = "jax"
        # virtual CPU devices only, whatever devices the machine has
        os.environ["JAX_PLATFORMS"] = "cpu"
        flag = f"--xla_force_host_platform_device_count={data * model}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
        from pretraining import config

        settings = config.load(options.config, flags)
        report(settings, options, data, model)
    except (ValueError, ImportError) as error:
        complain(error)
        return 2
    return 0


def mesh_of(text):
    """Returns `(data, model)` of `DATAxMODEL`, or raises ValueError."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
    data, model = map(int, match.groups()) if match else (0, 0)
    if not 2 <= data * model <= MAX_DEVICES:
        raise ValueError(
            f"--mesh {text:.200}: expected DATAxMODEL, such as 8x1, of 2 to {MAX_DEVICES} devices."
        )
    return data, model


def report(settings, options, data, model):
    """Prints the collectives, and the projection if the mesh is data-parallel."""
    length = options.sequence_length
    predictions = options.predictions or math.ceil(0.15 * length)
    program, objective = compiled_step(settings, data, model, data, length, predictions)
    instructions = collectives(program, data, model)
    print(f"Collectives of a step on {data} x {model} devices, one sequence each:\n")
    print_collectives(instructions)
    print()
    print(verdict(instructions, objective, model, length))
    if model > 1:
        print("\nThe projection is for data parallelism: leave model at 1 (--mesh 2x1).")
        return
    parameters = sum(math.prod(v.shape) for v in objective.model.trainable_variables)
    flops = objective.flops_per_example(length, predictions)
    steps = {
        name: [
            project(
                chip, cores, flops, options.rows_per_core, gradient_bytes(instructions),
                parameters,
                options.utilization,
            )
            for cores in CORES
        ]
        for name, chip in CHIPS.items()
    }  # fmt: skip
    print(
        f"\nA PROJECTION, no TPU was tried (see the top of benchmarks/scaling.py): "
        f"{parameters / 1e6:.1f} M parameters, {flops / 1e9:.1f} GFLOP a sequence of {length}, "
        f"{options.rows_per_core} sequences a core, {options.utilization:.0%} of the peak.\n"
        "Milliseconds of a step, and efficiency; exchange after | overlapping the computation:\n"
    )
    print_projection(steps)
    for name, chip in CHIPS.items():
        print(
            f"  {name}: {chip.flops / 1e12:.0f} TFLOP/s, {chip.memory / 1e9:.0f} GB at "
            f"{chip.memory_bandwidth / 1e9:.0f} GB/s, interconnect "
            f"{chip.interconnect / 1e9:.0f} GB/s, pods of {chip.pod} chips of {chip.cores} cores. "
            f"{chip.source}"
        )
    if options.plot:
        plot(steps, options.plot)


def print_collectives(instructions):
    """Prints a table of collectives by axis, part of the step, and kind."""
    rows = {}
    for c in instructions:
        key = c.axis, c.way, c.kind
        count, arrays, size = rows.get(key, (0, 0, 0))
        rows[key] = count + 1, arrays + len(c.shapes), size + c.bytes
    print(f"{'axis':6} {'way':9} {'kind':19} {'count':>6} {'arrays':>7} {'bytes a device':>15}")
    for (axis, way, kind), (count, arrays, size) in sorted(rows.items()):
        print(f"{axis:6} {way:9} {kind:19} {count:6} {arrays:7} {size:15,}")


def verdict(instructions, objective, model, length):
    """Returns a comparison of the collectives with those expected from the layout, as text.

    Expected are sums of each gradient once. If the vocabulary is split, the metric `accuracy` also
    gathers the best token of each device, a few bytes.
    """
    exchanged = gradient_bytes(instructions)
    expected = expected_bytes(objective, model, length)
    lines = [f"Gradients: {exchanged:,} bytes are exchanged, {expected:,} were expected."]
    for kind in KINDS:
        size = sum(c.bytes for c in instructions if c.kind == kind)
        if size and kind != "all-reduce":
            lines.append(f"Besides sums: {kind}, {size:,} bytes.")
    return "\n".join(lines)


def gradient_bytes(instructions):
    """Returns the bytes of the gradient sums along the data axis, without scalars."""
    return sum(
        size
        for c in instructions
        if (c.axis, c.kind, c.way) == ("data", "all-reduce", "backward")
        for shape, size in zip(c.shapes, c.sizes, strict=True)
        if shape
    )


def print_projection(steps):
    """Prints the table of projected step times."""
    print(f"{'cores':>6}" + "".join(f"{name:>26}" for name in steps))
    for i, cores in enumerate(CORES):
        cells = []
        for column in steps.values():
            step = column[i]
            if step is None:
                cells.append("more than a pod")
                continue
            plain, overlapped = (
                f"{1e3 * time:.1f} {step.compute / time:.0%}"
                for time in (step.plain, step.overlapped)
            )
            cells.append(f"{plain} | {overlapped}")
        print(f"{cores:6}" + "".join(f"{cell:>26}" for cell in cells))


def plot(steps, path):
    """Plots the efficiency by cores."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "--plot needs matplotlib: pip install 'bert4keras_lite[plots]'."
        ) from None
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    for name, column in steps.items():
        column = [step for step in column if step]
        cores = [step.cores for step in column]
        axes.plot(cores, [s.compute / s.overlapped for s in column], marker="o", label=name)
    axes.set(xscale="log", xlabel="TPU cores", ylabel="efficiency", ylim=(0, 1.05))
    axes.set_title("Projected, not measured; exchange overlaps with the computation")
    axes.set_xticks(CORES, CORES)
    axes.legend()
    with saving(Path(path).parent) as stage:
        figure.savefig(stage / Path(path).name, bbox_inches="tight")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # where `pretraining` is the package, not a script
    sys.exit(main())
