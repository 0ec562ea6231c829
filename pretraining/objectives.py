"""What is learned from text: for each objective a graph that ends at what is predicted, and a loss.

| objective | predicts | from |
|---|---|---|
| `mlm` | the tokens hidden from it | RoBERTa, arXiv 1907.11692, section 4 |
| `lm` | the next token | GPT-2, Radford et al., 2019 |
| `unilm` | the next token of a second text, given a first | UniLM, arXiv 1905.03197, section 2.3 |
| `t5` | the spans cut out of a text | T5, arXiv 1910.10683, section 3.3.4 |
| `electra` | which tokens a smaller model replaced | ELECTRA, arXiv 2003.10555, section 2 |

`build` makes a `Transformer`, at random or from a checkpoint, and draws the graph of the objective
with its layers. So training the one trains the other, and the `Transformer` is what is saved.
"""

import re
import shutil
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import keras
from keras import ops

from bert4keras_lite.checkpoints import saving_checkpoint
from bert4keras_lite.losses import projected_crossentropy, sequence_crossentropy
from bert4keras_lite.models import EncoderDecoder, Transformer, build_transformer_model
from bert4keras_lite.training.step import replicas

FAMILIES = {"mlm": "bert", "lm": "gpt2", "unilm": "bert", "t5": "t5.1.1", "electra": "electra"}
APPLICATIONS = {"lm": "lm", "unilm": "unilm"}
DISCRIMINATOR = "discriminator"


@dataclass
class Objective:
    """A model to be trained, and what it is made of.

    Attributes:
        name: a key of `FAMILIES`.
        model: a `keras.Model` whose inputs are a dict, and which knows its loss: compile it with
            an optimizer alone.
        parts: name -> `Transformer`, the one that matters first. One, but for `electra`.
    """

    name: str
    model: keras.Model
    parts: dict

    @property
    def transformer(self):
        """The `Transformer` that is wanted in the end."""
        return next(iter(self.parts.values()))

    @property
    def inputs(self):
        """Names of the arrays that the model takes."""
        return [tensor.name for tensor in self.model.inputs]

    def save(self, directory, format, files=()):
        """Writes what was trained: `Transformer.save_checkpoint`, a directory for each part.

        Args:
            directory: is made if missing.
            format: `"tf"`, `"hf"` or `"keras"`.
            files: dict name -> path, of what is copied into each of them.

        Returns:
            The directories.

        Raises:
            ValueError: the format has no such model.
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
        """Floating point operations that training on one sequence takes.

        A product of matrices counts two for each multiplication, and three times, as the backward
        pass has two products for each of the forward pass. What is computed again to save memory
        does not count. (Chowdhery et al., "PaLM", arXiv 2204.02311, appendix B.)

        Args:
            length: tokens of the sequence.
            predictions: positions that are scored; when left out, 15 % of them for `mlm` and
                `electra`, else all.
            target_length: tokens that a decoder writes; when left out, what 15 % of the tokens in
                spans of three make, with a sentinel for each.
        """
        target_length = target_length or ceil(0.15 * length) + ceil(0.05 * length) + 1
        share = 0.15 if self.name in ("mlm", "electra") else 1
        written = target_length if self.name == "t5" else length
        predictions = predictions or ceil(share * written)
        return sum(
            3 * forward_flops(part, length, predictions, target_length)
            for part in self.parts.values()
        )


def forward_flops(transformer, length, predictions, target_length):
    """Floating point operations of one sequence's way forward; see `Objective`."""
    config = transformer.config
    repeated = config.block_counts["i"] if config.share_blocks else 1
    scored = predictions if config.with_lm else 0
    total = 2 * scored * config.token_size * config.vocab_size
    for path, variable in transformer.variables.items():
        if not path.endswith("/kernel"):
            continue
        decodes = path.startswith("decoder_") and not re.search("/cross/(key|value)/", path)
        rows = target_length if decodes else length
        if path.startswith("lm_dense"):
            rows = scored
        elif path.startswith("pooler"):
            rows = 1
        times = repeated if path.startswith("block/") else 1
        total += 2 * rows * times * variable.shape[0] * variable.shape[1]
    value_size = config.num_attention_heads * config.head_size
    if config.attention == "gau":
        value_size = config.intermediate_size
    each = 2 * (config.num_attention_heads * config.key_size + value_size)
    pairs = 0 if config.stacks == "decoder" else config.block_counts["i"] * length**2
    if config.stacks != "one":
        pairs += config.block_counts["j"] * target_length * (target_length + length)
    return total + each * pairs


def build(settings, vocab_size=None):
    """The model of an objective.

    Args:
        settings: has `objective`, a key of `FAMILIES`; `model`, a dict of fields of `Config`,
            where `family` is a key of `ARCHITECTURES`; `checkpoint`, what to start from, or None;
            `remat`; `vocabulary_chunk`; and for ELECTRA `generator_size`, `generator_checkpoint`
            and `discriminator_weight`.
        vocab_size: of the corpus; for a new model that `settings.model` gives no `vocab_size`.

    Returns:
        An `Objective`.

    Raises:
        ValueError, TypeError, CheckpointError: as `build_transformer_model`; or the corpus has
            more tokens than the model.

    Example:
        >>> objective = build(Settings(objective="mlm", checkpoint="chinese_L-12_H-768_A-12"))
        >>> objective.model.compile(AdamW(1e-4))
    """
    name = settings.objective
    if name not in FAMILIES:
        raise ValueError(f"objective={name!r}: expected one of {', '.join(FAMILIES)}.")
    options = {"with_discriminator" if name == "electra" else "with_lm": "linear"}
    options |= {"vocab_size": vocab_size} if settings.checkpoint is None else {}
    options |= {"prefix": f"{DISCRIMINATOR}_"} if name == "electra" else {}
    options |= {"remat": settings.remat} | dict(settings.model)
    family = options.pop("family", "auto" if settings.checkpoint else FAMILIES[name])
    transformer = build_transformer_model(
        checkpoint_path=settings.checkpoint,
        model=family,
        application=APPLICATIONS.get(name, "encoder"),
        return_keras_model=False,
        **options,
    )
    config = transformer.config
    if vocab_size and vocab_size > config.vocab_size:
        raise ValueError(
            f"the corpus has a vocabulary of {vocab_size} tokens, the model one of "
            f"{config.vocab_size}: make the corpus with the vocabulary of the checkpoint."
        )
    if (config.stacks == "both") != (name == "t5") or config.stacks in ("encoder", "decoder"):
        raise ValueError(
            f"objective={name!r} and a model of the family {config.family}: t5 is for models with "
            "an encoder and a decoder, the others for those of one stack."
        )
    if name == "electra":
        return electra(settings, transformer)
    graph = (Denoising if name == "t5" else Predicting)(
        transformer, masked=name == "mlm", scored=not settings.vocabulary_chunk
    )
    if settings.vocabulary_chunk:
        crossentropy = ProjectedCrossentropy(transformer, settings.vocabulary_chunk)
        model = TokenPrediction(graph.inputs, graph.outputs[0], crossentropy)
    else:
        model = TokenPrediction(graph.inputs, graph.outputs[0])
    return Objective(name, model, {config.family: transformer})


def electra(settings, discriminator):
    """The objective of a discriminator, and of the generator that writes what it is to judge.

    Both have the same embeddings; the generator is narrower in all else, and its hidden size a
    multiple of the discriminator's head size. (ELECTRA, sections 3.2 and appendix A.)
    """
    config = discriminator.config
    heads = max(1, round(config.num_attention_heads * settings.generator_size))
    smaller = replace(
        config,
        family="electra_generator",
        hidden_size=heads * config.head_size,
        num_attention_heads=heads,
        attention_head_size=None,
        intermediate_size=round(config.intermediate_size * settings.generator_size),
        embedding_size=config.token_size,
        with_discriminator=False,
        with_lm="linear",
    )
    embeddings = {
        name: discriminator.layers[f"{DISCRIMINATOR}_{name}"]
        for name in ("token_embedding", "segment_embedding", "position_embedding", "embedding_norm")
    }
    generator = build_transformer_model(
        checkpoint_path=settings.generator_checkpoint,
        model=smaller,
        return_keras_model=False,
        layers=embeddings,
        remat=settings.remat,
    )
    graph = Predicting(generator, masked=True)
    ids = graph.ids
    guesses = GumbelSample(seed=settings.seed, name="guesses")(graph.outputs[0])
    positions = ids.pop("masked_positions")
    read = Replaced(name="replaced")(ids["token_ids"], guesses, positions)
    (judged,) = discriminator.build_graph(**ids | {"token_ids": read})
    model = ReplacedTokenDetection(
        graph.inputs,
        {"scores": graph.outputs[0], "guesses": guesses, "judged": judged},
        config.pad_token_id,
        settings.discriminator_weight,
    )
    return Objective("electra", model, {"discriminator": discriminator, "generator": generator})


# Graphs, drawn with the layers of a Transformer


class Predicting(Transformer):
    """A `Transformer` drawn again, for a batch as `batches.Examples` gives it.

    Args:
        transformer: of which the layers are.
        masked: whether tokens of some positions alone are scored, a seventh of the work of all.
            Then there is an input more, `masked_positions`, `(batch, predictions)`, and scores are
            `(batch, predictions, vocab_size)`.
        scored: False leaves out the last step, from vectors of the size of the tokens' to scores:
            `ProjectedCrossentropy` takes it from there.
    """

    def __init__(self, transformer, masked=False, scored=True):
        self.masked, self.scored = masked, scored
        super().__init__(transformer.config, layers=transformer.layers)

    def input(self, name, *dims, dtype="int32"):
        encoded = self.config.stacks == "both" and name == "token_ids"
        return super().input("encoder_token_ids" if encoded else name, *dims, dtype=dtype)

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
    """The same of an encoder and a decoder."""


class AtPositions(keras.layers.Layer):
    """The vectors at some positions.

    A product with rows that are 1 at one place: for so few positions it costs next to nothing,
    stays on the device that has the row of the batch, and, unlike the sum of a gather's gradient,
    comes out the same every time on a GPU.

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
    """Tokens drawn from the distribution that scores stand for, without a gradient.

    The largest of scores and Gumbel noise, which is a sample of their softmax (Gumbel, 1954).

    Args:
        seed: of the noise.

    Call arguments:
        scores: `(batch, predictions, vocab_size)`.

    Returns:
        Ids `(batch, predictions)`.
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, scores):
        uniform = keras.random.uniform(ops.shape(scores), seed=self.seed_generator)
        tiny = 1e-20  # the logarithm of 0 is no number
        noise = -ops.log(-ops.log(uniform + tiny) + tiny)
        return ops.argmax(ops.stop_gradient(scores) + noise, axis=-1)

    def compute_output_spec(self, scores):
        return keras.KerasTensor(scores.shape[:-1], "int32")


class Replaced(keras.layers.Layer):
    """Token ids with others at some positions.

    Call arguments:
        token_ids: `(batch, length)`.
        guesses, positions: `(batch, predictions)`; nothing goes to position 0.

    Returns:
        Ids `(batch, length)`.
    """

    def call(self, token_ids, guesses, positions):
        there, ids = scattered(guesses, positions, ops.shape(token_ids)[1])
        return ops.where(there, ids, token_ids)

    def compute_output_spec(self, token_ids, guesses, positions):
        return keras.KerasTensor(token_ids.shape, "int32")


def at_each(positions, length):
    """`(batch, predictions)` to `(batch, predictions, length)`: whether that is the position."""
    return ops.equal(positions[:, :, None], ops.arange(length, dtype=positions.dtype))


def scattered(values, positions, length):
    """Integers brought to their positions.

    A batch fills up `positions` with 0, where [CLS] stands, which is never masked.

    Args:
        values, positions: `(batch, predictions)`, no position twice but 0.
        length: of the sequence.

    Returns:
        Whether a value came to a position, and the value; both `(batch, length)`.
    """
    there = ops.logical_and(at_each(positions, length), positions[:, :, None] > 0)
    values = ops.where(there, ops.cast(values, "int32")[:, :, None], 0)
    return ops.any(there, axis=1), ops.sum(values, axis=1)


# Losses


def global_mean(values, weights):
    """The weighted mean over the batch of all devices; 0 if nothing weighs.

    On JAX a batch is one array over all devices. On TensorFlow each replica sees its part, and
    what the replicas give is added up: so that it is the mean of all predictions, as on one
    device, each divides by the sum of the weights of all.
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
    """A graph that ends at the scores of tokens, and their cross entropy.

    Targets are ids `(batch, predictions)`, sample weights of that shape 0 where there is nothing
    to predict. `accuracy` is the share of predictions whose highest score is the right one.

    Args:
        inputs, outputs: of the graph.
        crossentropy: from targets and outputs to losses, for outputs that are not scores.
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
    """Cross entropy of scores that are never held: see `losses.projected_crossentropy`.

    A layer for the sake of the weights of the last step, which the graph does not reach.

    Args:
        transformer: whose table of tokens, and bias, give the scores.
        chunk: how many tokens of the vocabulary at a time.
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
    """The generator's loss, and that of the discriminator on what the generator made of the text.

    Targets and sample weights are those of masked tokens, as of `TokenPrediction`. What is to be
    known of each token is whether it is another than in the text: a guess that is right is not
    replaced (section 2). Padding does not count.

    Args:
        inputs, outputs: of the graph; `scores` and `guesses` of the generator, and what the
            discriminator `judged`, `(batch, length, 1)`.
        pad_token_id: of what does not count; -1: all does.
        weight: of the discriminator's loss.
    """

    def __init__(self, inputs, outputs, pad_token_id, weight):
        super().__init__({tensor.name: tensor for tensor in inputs}, outputs)
        self.pad_token_id, self.weight = pad_token_id, weight
        self.means = {
            name: keras.metrics.Mean(name=name)
            for name in ("generator_loss", "discriminator_loss", "accuracy", "detected")
        }

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        generator = global_mean(sequence_crossentropy(y, y_pred["scores"]), sample_weight)
        wrong = ops.logical_and(ops.not_equal(y_pred["guesses"], y), sample_weight > 0)
        _, replaced = scattered(wrong, x["masked_positions"], ops.shape(x["token_ids"])[1])
        counted = ops.not_equal(x["token_ids"], self.pad_token_id)
        judged = ops.cast(y_pred["judged"][..., 0], "float32")
        discriminator = global_mean(sequence_crossentropy(replaced, judged), counted)

        right = ops.equal(ops.argmax(y_pred["scores"], axis=-1), y)
        self.means["accuracy"].update_state(right, sample_weight)
        self.means["detected"].update_state(judged > 0, replaced)
        self.means["generator_loss"].update_state(generator)
        self.means["discriminator_loss"].update_state(discriminator)
        return generator + self.weight * discriminator
