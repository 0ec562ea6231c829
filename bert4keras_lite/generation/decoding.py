"""Decode steps with a key/value cache: the layers of a `Transformer`, applied to tensors."""

from keras import ops

from .. import loading
from ..layers.cache import Cache
from ..layers.embeddings import token_mask

__all__ = ["decode_step", "empty_caches", "encode_prompt", "generating_transformer"]


def generating_transformer(model):
    """Returns the `Transformer` of a model that can generate text.

    Raises:
        ValueError: the model cannot generate text.
    """
    transformer = loading.transformer_of(model)
    config = transformer.config
    if config.stacks in ("encoder", "decoder"):
        raise ValueError(
            f"{config.family}: this is only the {config.stacks} of an encoder-decoder. Build the "
            "full model to generate."
        )
    if config.stacks == "one" and config.attend == "all":
        raise ValueError(
            f"{config.family}: a bidirectional encoder cannot generate text. Build it with "
            "application='lm' or 'unilm', or fill in masks with gibbs_sample."
        )
    if not config.with_lm:
        raise ValueError(
            f"{config.family}: the model has no language-model head. Build it with with_lm=True."
        )
    return transformer


def empty_caches(config):
    """Makes an empty `Cache` for each attention branch of each block: see `Transformer.encode`."""
    count, branches = config.block_counts["i"], ("attention",)
    if config.stacks != "one":
        count, branches = config.block_counts["j"], ("attention", "cross")
    return [{name: Cache() for name in branches} for _ in range(count)]


def encode_prompt(transformer, token_ids, lengths):
    """Computes the outputs of the encoder, and their attention bias; for one stack, two Nones.

    Args:
        transformer: a `Transformer`.
        token_ids: `(batch, length)`.
        lengths: number of tokens of each row, `(batch, 1)`.
    """
    if transformer.config.stacks == "one":
        return None, None
    is_token = transformer.positions(token_ids) < lengths
    padding_mask = ops.logical_and(is_token, token_mask(token_ids, transformer.config.pad_token_id))
    layer = transformer.attention_bias_layer(stack="encoder_")
    bias = layer(token_ids, visible=padding_mask)
    return transformer.encode_source(token_ids, bias), bias


def decode_step(
    transformer,
    caches,
    token_ids,
    segment_ids,
    start,
    cache_positions,
    key_cache_positions,
    attention_mask=None,
    memory=None,
    memory_bias=None,
    last_only=False,
):
    """Computes the logits of the next tokens, from new tokens and the caches.

    In a batch, prompts of different lengths end at the same cache position: shorter ones start
    later.

    Args:
        transformer: a `Transformer`.
        caches: for each block, branch -> `Cache`; updated with the keys and values of the new
            tokens.
        token_ids, segment_ids: `(batch, queries)`: the prompts, padded on the left (prefill); or,
            for each beam, its last token.
        start: cache position of the first token of each row, `(batch, 1)`.
        cache_positions, key_cache_positions: of the queries and of the keys, `(1, queries)` and
            `(1, keys)`.
        attention_mask: boolean, `(batch, queries, keys)`; None for prompts, whose mask depends on
            `application`.
        memory, memory_bias: from `encode_prompt`.
        last_only: whether only the logits of the last query are needed.

    Returns:
        `(batch, queries or 1, vocab_size)`.
    """
    step = (start, cache_positions, attention_mask)
    if transformer.config.stacks == "one":
        positions = ops.maximum(cache_positions - start, 0) + transformer.config.first_position
        x = transformer.embed(token_ids, positions, segment_ids)
        context = {"bias": _attention_bias(transformer, token_ids, segment_ids, *step)}
        context |= transformer.position_context(positions, cache_positions, key_cache_positions)
        indexes = (cache_positions, key_cache_positions)
        context = transformer.with_kinds(context, positions, *indexes)
        x = transformer.encode(x, context, caches=caches)
    else:
        x = transformer.decoded(
            token_ids,
            _attention_bias(transformer, token_ids, None, *step, "lm", "decoder_"),
            cache_positions,
            key_cache_positions,
            memory,
            memory_bias,
            ops.arange(memory_bias.shape[-1])[None],
            caches,
        )
    return transformer.token_logits(x[:, -1:] if last_only else x)


def _attention_bias(
    transformer,
    token_ids,
    segment_ids,
    start,
    cache_positions,
    attention_mask,
    attend=None,
    stack="",
):
    """Computes the attention bias of a decode step: see `decode_step`."""
    layer = transformer.attention_bias_layer(attend, stack)
    if attention_mask is not None:
        return layer.from_visible(attention_mask[:, None])
    is_token = ops.not_equal(token_ids, transformer.config.pad_token_id)
    is_start = cache_positions == start
    padding_mask = ops.logical_and(cache_positions >= start, ops.logical_or(is_start, is_token))
    return layer(token_ids, segment_ids, padding_mask)
