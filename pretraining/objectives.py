"""Pretraining objectives: model graph and loss of MLM, LM, UniLM, T5, ELECTRA.

| objective | predicts | reference |
|---|---|---|
| `mlm` | the masked tokens | RoBERTa, arXiv 1907.11692, section 4 |
| `lm` | the next token | GPT-2, Radford et al., 2019 |
| `unilm` | the next token of a second text, given a first | UniLM, arXiv 1905.03197, section 2.3 |
| `t5` | the spans removed from a text | T5, arXiv 1910.10683, section 3.3.4 |
| `electra` | which tokens a smaller model replaced | ELECTRA, arXiv 2003.10555, section 2 |

`build` creates a `Transformer`, at random or from a checkpoint, and builds the graph of the
objective with its layers. Both share their weights, and the `Transformer` is saved.
"""

import shutil
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import keras
from keras import ops

from bert4keras_lite.backend import replicas
from bert4keras_lite.checkpoints.stage import saving_checkpoint
from bert4keras_lite.layers import TransformerBlock
from bert4keras_lite.layers.base import dense_flops
from bert4keras_lite.losses import electra_losses, projected_crossentropy, sequence_crossentropy
from bert4keras_lite.models import EncoderDecoder, Transformer, build_transformer_model

__all__ = ["build"]

# objective -> family of a new model
DEFAULT_FAMILIES = {
    "mlm": "bert",
    "lm": "gpt2",
    "unilm": "bert",
    "t5": "t5.1.1",
    "electra": "electra",
}
APPLICATIONS = {"lm": "lm", "unilm": "unilm"}
DISCRIMINATOR = "discriminator"


@dataclass
class Objective:
    """A model to train, and the `Transformer`s it consists of.

    Attributes:
        name: a key of `DEFAULT_FAMILIES`.
        model: a `keras.Model` with a dict of inputs and its own loss: compile it with only an
            optimizer.
        parts: dict name -> `Transformer`, the main one first; `electra` has two, the others one.
    """

    name: str
    model: keras.Model
    parts: dict

    @property
    def transformer(self):
        """The main `Transformer`, which pretraining is for."""
        return next(iter(self.parts.values()))

    @property
    def inputs(self):
        """The names of the model's inputs."""
        return [tensor.name for tensor in self.model.inputs]

    def save(self, directory, format, files=()):
        """Saves each part with `Transformer.save_checkpoint`, in a directory of its own if several.

        Args:
            directory: created if missing.
            format: `"tf"`, `"hf"` or `"keras"`.
            files: dict name -> path of files to copy into each directory. Default none.

        Returns:
            The list of directories.

        Raises:
            ValueError: the format does not support the model.
        """
        folders = []
        for name, transformer in self.parts.items():
            folders.append(Path(directory) / name if len(self.parts) > 1 else Path(directory))
            with saving_checkpoint(folders[-1]) as stage:
                transformer.save_checkpoint(stage, format)
                for file, path in dict(files).items():
                    shutil.copyfile(path, stage / file)
        return folders

    def flops_per_example(self, length, predictions=None, target_length=None):
        """Returns the model FLOPs of training on one sequence.

        Matrix products count two FLOPs for each multiplication, times three, as the backward pass
        has two products for each one of the forward pass. Recomputation to save memory does not
        count. (Chowdhery et al., "PaLM", arXiv 2204.02311, appendix B.)

        Args:
            length: tokens of the sequence.
            predictions: number of positions with logits. Default None: 15 % of them for `mlm` and
                `electra`, otherwise all.
            target_length: number of tokens of the decoder. Default None: 15 % of `length` in spans
                of three, with a sentinel for each span.
        """
        target_length = target_length or ceil(0.15 * length) + ceil(0.05 * length) + 1
        rate = 0.15 if self.name in ("mlm", "electra") else 1
        output_length = target_length if self.name == "t5" else length
        predictions = predictions or ceil(rate * output_length)
        return sum(
            3 * forward_flops(part, length, predictions, target_length)
            for part in self.parts.values()
        )


def forward_flops(transformer, length, predictions, target_length):
    """Returns the FLOPs of the forward pass of one sequence; see `flops_per_example`."""
    config = transformer.config
    scored = predictions if config.with_lm else 0
    rows = {"lm_dense": scored, "pooler": 1}
    total = 2 * scored * config.token_size * config.vocab_size
    for name, layer in transformer.layers.items():
        name = name.removeprefix(transformer.prefix)
        if isinstance(layer, TransformerBlock):
            decodes = name.startswith("decoder_")
            flops = layer.flops(*((target_length, length) if decodes else (length,)))
            total += flops * (config.block_counts["i"] if config.share_blocks else 1)
        elif isinstance(layer, keras.layers.Dense):
            total += dense_flops(rows.get(name, length), layer)
    return total


def build(
    objective,
    vocab_size=None,
    *,
    model=None,
    checkpoint=None,
    remat=False,
    vocabulary_chunk=None,
    **generator,
):
    """Builds the model of an objective.

    Args:
        objective: a key of `DEFAULT_FAMILIES`.
        vocab_size: vocabulary size of the corpus, for a new model if `model` does not have it.
            Default None.
        model: dict of fields of `Config`, where `family` is a key of `ARCHITECTURES`. Default None.
        checkpoint: the initial weights, see `build_transformer_model`. Default None: random ones.
        remat: whether to recompute activations instead of keeping them. Default False.
        vocabulary_chunk: number of tokens whose logits are computed at a time. Default None: all.
        **generator: for ELECTRA, see `electra`; ignored for other objectives.

    Returns:
        An `Objective`.

    Raises:
        ValueError, TypeError, CheckpointError: see `build_transformer_model`.
        ValueError: the corpus has more tokens than the model, or the family does not support the
            objective.

    Example:
        >>> objective = build("mlm", checkpoint="chinese_L-12_H-768_A-12")
        >>> objective.model.compile(AdamW(1e-4))
    """
    name = objective
    if name not in DEFAULT_FAMILIES:
        raise ValueError(f"objective={name!r}: expected one of {', '.join(DEFAULT_FAMILIES)}.")
    options = {"with_discriminator" if name == "electra" else "with_lm": "linear"}
    options |= {"vocab_size": vocab_size} if checkpoint is None else {}
    options |= {"prefix": f"{DISCRIMINATOR}_"} if name == "electra" else {}
    options |= {"remat": remat} | (model or {})
    family = options.pop("family", "auto" if checkpoint else DEFAULT_FAMILIES[name])
    transformer = build_transformer_model(
        checkpoint_path=checkpoint,
        model=family,
        application=APPLICATIONS.get(name, "encoder"),
        return_keras_model=False,
        **options,
    )
    config = transformer.config
    if vocab_size and vocab_size > config.vocab_size:
        raise ValueError(
            f"the corpus has a vocabulary of {vocab_size} tokens, the model one of "
            f"{config.vocab_size}. Make the corpus with the vocabulary of the checkpoint."
        )
    if (config.stacks == "both") != (name == "t5") or config.stacks in ("encoder", "decoder"):
        raise ValueError(
            f"objective={name!r} and a model of the family {config.family}: t5 is for models with "
            "an encoder and a decoder, the others are for models of one stack."
        )
    if name == "electra":
        return electra(transformer, remat=remat, **generator)
    graph = (Denoising if name == "t5" else Predicting)(
        transformer, masked=name == "mlm", scored=not vocabulary_chunk
    )
    crossentropy = vocabulary_chunk and ProjectedCrossentropy(transformer, vocabulary_chunk)
    model = TokenPrediction(graph.inputs, graph.outputs[0], crossentropy)
    return Objective(name, model, {config.family: transformer})


def electra(
    discriminator,
    remat=False,
    seed=None,
    generator_size=0.25,
    generator_checkpoint=None,
    discriminator_weight=50.0,
):
    """Builds the objective of a discriminator and a generator, which replaces tokens for it.

    They share their embeddings; otherwise the generator is narrower, with a hidden size that is a
    multiple of the discriminator's head size. (ELECTRA, section 3.2 and appendix A.)

    Args:
        discriminator: a `Transformer`.
        remat: see `build`.
        seed: seed of the replaced tokens. Default None.
        generator_size: number of heads and of units of the generator, as a fraction of the
            discriminator's. Default 0.25.
        generator_checkpoint: initial weights of the generator. Default None: random ones.
        discriminator_weight: weight of the discriminator's loss. Default 50.

    Returns:
        An `Objective`.
    """
    config = discriminator.config
    heads = max(1, round(config.num_attention_heads * generator_size))
    smaller = replace(
        config,
        family="electra_generator",
        hidden_size=heads * config.head_size,
        num_attention_heads=heads,
        attention_head_size=None,
        intermediate_size=round(config.intermediate_size * generator_size),
        embedding_size=config.token_size,
        with_discriminator=False,
        with_lm="linear",
    )
    embeddings = {
        name: discriminator.layers[f"{DISCRIMINATOR}_{name}"]
        for name in ("token_embedding", "segment_embedding", "position_embedding", "embedding_norm")
    }
    generator = build_transformer_model(
        checkpoint_path=generator_checkpoint,
        model=smaller,
        return_keras_model=False,
        layers=embeddings,
        remat=remat,
    )
    graph = Predicting(generator, masked=True)
    ids = graph.ids
    guesses = GumbelSample(seed=seed, name="guesses")(graph.outputs[0])
    positions = ids.pop("masked_positions")
    replaced = Replaced(name="replaced")(ids["token_ids"], guesses, positions)
    (judged,) = discriminator.build_graph(**ids | {"token_ids": replaced})
    model = ReplacedTokenDetection(
        graph.inputs,
        {"logits": graph.outputs[0], "guesses": guesses, "judged": judged},
        config.pad_token_id,
        discriminator_weight,
    )
    return Objective("electra", model, {"discriminator": discriminator, "generator": generator})


# Graphs, built with the layers of a Transformer


class Predicting(Transformer):
    """`Transformer` graph for the batches of `batches.Examples`, with the layers of another one.

    Args:
        transformer: the `Transformer` whose layers are used.
        masked: whether to compute logits only at some positions, a seventh of the work for all. The
            graph then has another input, `masked_positions` `(batch, predictions)`, and logits of
            shape `(batch, predictions, vocab_size)`. Default False.
        scored: whether to compute logits (default). With False, the output is the vectors before
            the projection to the vocabulary, for `ProjectedCrossentropy`.
    """

    def __init__(self, transformer, masked=False, scored=True):
        self.masked, self.scored = masked, scored
        super().__init__(transformer.config, layers=transformer.layers)

    def new_input(self, name, *dims, dtype="int32"):
        encoded = self.config.stacks == "both" and name == "token_ids"
        return super().new_input("encoder_token_ids" if encoded else name, *dims, dtype=dtype)

    def make_inputs(self):
        ids = super().make_inputs()
        if self.masked:
            ids["masked_positions"] = keras.Input((None,), dtype="int32", name="masked_positions")
        return ids

    def build_graph(self, masked_positions=None, **ids):
        self.masked_positions = masked_positions
        return super().build_graph(**ids)

    def output_heads(self, x):
        if self.masked:
            x = self.layer(AtPositions, "at_positions")(x, self.masked_positions)
        if self.scored:
            return super().output_heads(x)
        for name in ("lm_dense", "lm_norm"):
            x = self.layers[name](x) if name in self.layers else x
        return [x]


class Denoising(Predicting, EncoderDecoder):
    """`Predicting` for models with an encoder and a decoder."""


class AtPositions(keras.layers.Layer):
    """Gathers the vectors at some positions.

    Computed as a product with one-hot rows: for few positions this is cheap, stays on the device
    that has the row of the batch, and, unlike the gradient of a gather, is deterministic on a GPU.

    Call arguments:
        x: `(batch, length, dim)`.
        positions: integers `(batch, predictions)`.

    Returns:
        `(batch, predictions, dim)`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x, positions):
        return ops.matmul(ops.cast(at_each(positions, ops.shape(x)[1]), x.dtype), x)

    def compute_mask(self, x, previous_mask=None):
        return None

    def compute_output_spec(self, x, positions):
        return keras.KerasTensor((*positions.shape, x.shape[-1]), x.dtype)


class GumbelSample(keras.layers.Layer):
    """Samples tokens from the softmax of logits, without a gradient.

    The argmax of logits plus Gumbel noise is a sample of their softmax (Gumbel, 1954).

    Args:
        seed: seed of the noise. Default None.

    Call arguments:
        scores: logits `(batch, predictions, vocab_size)`.

    Returns:
        Ids `(batch, predictions)`.
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, scores):
        uniform = keras.random.uniform(ops.shape(scores), seed=self.seed_generator)
        tiny = 1e-20  # the logarithm of 0 is not finite
        noise = -ops.log(-ops.log(uniform + tiny) + tiny)
        return ops.argmax(ops.stop_gradient(scores) + noise, axis=-1)

    def compute_output_spec(self, scores):
        return keras.KerasTensor(scores.shape[:-1], "int32")


class Replaced(keras.layers.Layer):
    """Replaces token ids at some positions.

    Call arguments:
        token_ids: `(batch, length)`.
        guesses: the new ids, `(batch, predictions)`.
        positions: their positions, `(batch, predictions)`; those that are 0 are ignored.

    Returns:
        Ids `(batch, length)`.
    """

    def call(self, token_ids, guesses, positions):
        is_replaced, ids = scattered(guesses, positions, ops.shape(token_ids)[1])
        return ops.where(is_replaced, ids, token_ids)

    def compute_output_spec(self, token_ids, guesses, positions):
        return keras.KerasTensor(token_ids.shape, "int32")


def at_each(positions, length):
    """Returns one-hot rows of positions, bool `(batch, predictions, length)`."""
    return ops.equal(positions[:, :, None], ops.arange(length, dtype=positions.dtype))


def scattered(values, positions, length):
    """Scatters integers to their positions.

    `positions` are padded with 0, the position of [CLS], which is never masked.

    Args:
        values, positions: `(batch, predictions)`; each position occurs at most once, except 0.
        length: length of the sequence.

    Returns:
        `(mask, values)`, both `(batch, length)`: whether a position has a value, and the value.
    """
    one_hot = ops.logical_and(at_each(positions, length), positions[:, :, None] > 0)
    values = ops.where(one_hot, ops.cast(values, "int32")[:, :, None], 0)
    return ops.any(one_hot, axis=1), ops.sum(values, axis=1)


# Losses


def global_mean(values, weights):
    """Returns the weighted mean over the global batch; 0 if all weights are 0.

    On JAX a batch is one array over all devices. On TensorFlow each replica has a part of it, and
    the losses of the replicas are summed; so each divides by the sum of all weights, which gives
    the mean over all predictions, as on one device.
    """
    weights = ops.cast(weights, "float32")
    total = ops.sum(weights)
    if replicas() > 1:
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None:
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, total)
    return ops.divide_no_nan(ops.sum(values * weights), total)


class TokenPrediction(keras.Model):
    """Model that predicts tokens, with a cross-entropy loss.

    Targets are ids `(batch, predictions)`; sample weights have the same shape and are 0 where there
    is nothing to predict. The metric `accuracy` is the fraction of predictions whose highest logit
    is that of the target.

    Args:
        inputs, outputs: the inputs and the output of the graph.
        crossentropy: a function `(targets, outputs)` that returns losses, for outputs that are not
            logits. Default None: `sequence_crossentropy`.
    """

    def __init__(self, inputs, outputs, crossentropy=None):
        super().__init__({tensor.name: tensor for tensor in inputs}, outputs)
        self.crossentropy = crossentropy or sequence_crossentropy
        if crossentropy is None:
            self.accuracy = keras.metrics.Mean(name="accuracy")

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        if hasattr(self, "accuracy"):
            self.accuracy.update_state(ops.equal(ops.argmax(y_pred, axis=-1), y), sample_weight)
        return global_mean(self.crossentropy(y, y_pred), sample_weight)


class ProjectedCrossentropy(keras.layers.Layer):
    """Cross-entropy without the whole array of logits, see `losses.projected_crossentropy`.

    It is a layer so that the model tracks the weights of the projection, which is not in the graph.

    Args:
        transformer: the `Transformer` whose embedding table and bias give the logits.
        chunk: number of tokens of the vocabulary to process at a time.
    """

    def __init__(self, transformer, chunk):
        super().__init__(name="projected_crossentropy")
        layers, config = transformer.layers, transformer.config
        self.table = layers["token_embedding" if config.tie_word_embeddings else "lm_head"]
        self.bias = layers.get("lm_bias")
        self.chunk = chunk

    def call(self, targets, x):
        bias = None if self.bias is None else self.bias.beta
        return projected_crossentropy(targets, x, self.table.embeddings, bias, chunk=self.chunk)


class ReplacedTokenDetection(keras.Model):
    """ELECTRA model: the generator's loss plus the discriminator's on the generator's text.

    Targets and sample weights are those of masked tokens, as in `TokenPrediction`. The
    discriminator predicts for each token whether it differs from the original: a correct guess of
    the generator does not count as replaced (section 2). Padding is ignored.

    Args:
        inputs: the inputs of the graph.
        outputs: a dict: `logits` `(batch, predictions, vocab_size)` and `guesses`
            `(batch, predictions)` of the generator, and `judged` `(batch, length, 1)`, the logits
            of the discriminator.
        pad_token_id: id of tokens to ignore; -1 for none.
        weight: weight of the discriminator's loss.
    """

    def __init__(self, inputs, outputs, pad_token_id, weight):
        super().__init__({tensor.name: tensor for tensor in inputs}, outputs)
        self.pad_token_id, self.weight = pad_token_id, weight
        self.means = {
            name: keras.metrics.Mean(name=name)
            for name in ("generator_loss", "discriminator_loss", "accuracy", "detected")
        }

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        wrong = ops.logical_and(ops.not_equal(y_pred["guesses"], y), sample_weight > 0)
        _, replaced = scattered(wrong, x["masked_positions"], ops.shape(x["token_ids"])[1])
        counted = ops.not_equal(x["token_ids"], self.pad_token_id)
        generator, discriminator = electra_losses(
            (ops.where(sample_weight > 0, y, -1), ops.where(counted, replaced, -1)),
            (y_pred["logits"], y_pred["judged"]),
            global_mean,
        )
        right = ops.equal(ops.argmax(y_pred["logits"], axis=-1), y)
        self.means["accuracy"].update_state(right, sample_weight)
        self.means["detected"].update_state(y_pred["judged"][..., 0] > 0, replaced)
        self.means["generator_loss"].update_state(generator)
        self.means["discriminator_loss"].update_state(discriminator)
        return generator + self.weight * discriminator
