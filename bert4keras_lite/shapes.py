"""Variables of a model and their shapes, computed from its config without building the model.

Uses no framework: a conversion is checked like loading, without Keras.
"""

__all__ = ["shapes_of"]

# variables of the normalizations, for each `Config.norm`; and the normalizations of a block, for
# each `Config.norm_at`
_NORMS = {
    "layer": ("gamma", "beta"),
    "rms": ("gamma",),
    "rms_plus_one": ("gamma",),
    "plain_rms": (),
    "bias_free": ("gamma",),
}
_NORM_SLOTS = {
    "post": ("attention_out", "cross_out", "ffn_out"),
    "pre": ("attention_in", "cross_in", "ffn_in"),
    "pre_ffn": ("cross_in", "ffn_in"),
    "gpt2_ml": ("ffn_in", "ffn_out"),
    "sandwich": (
        *("attention_in", "attention_added"),
        *("cross_in", "cross_added"),
        *("ffn_in", "ffn_added"),
    ),
}
_STACKS = {
    "one": {"": "i"},
    "both": {"encoder_": "i", "decoder_": "j"},
    "encoder": {"encoder_": "i"},
    "decoder": {"decoder_": "j"},
}


def shapes_of(config):
    """Computes the shapes of all variables of a model.

    Args:
        config: a `Config`.

    Returns:
        A dict path (as in `mappings.py`) -> shape.
    """
    stacks = _STACKS[config.stacks]
    layers = _embeddings(config, stacks) | _classifier(config)
    layers |= _heads(config) if config.stacks != "encoder" else {}
    for stack, counter in stacks.items():
        layers |= _stack(config.of_stack(stack), stack, config.block_counts[counter])
    return {
        f"{path}/{name}": shape
        for path, variables in layers.items()
        for name, shape in variables.items()
    }


def _table(rows, size):
    return {"embeddings": (rows, size)}


def _dense(c, size, units, name=None):
    has_bias = c.use_bias and name not in c.without_bias
    return {"kernel": (size, units)} | ({"bias": (units,)} if has_bias else {})


def _norm(c, size):
    return dict.fromkeys(_NORMS[c.norm], (size,))


def _embeddings(c, stacks):
    layers = {"token_embedding": _table(c.vocab_size, c.token_size)}
    has_segments = any(c.of_stack(stack).segment_vocab_size for stack in stacks)
    if has_segments and not c.shared_segment_embeddings:
        layers["segment_embedding"] = _table(c.segment_vocab_size, c.token_size)
    if c.task_vocab_size:
        layers["task_embedding"] = _table(c.task_vocab_size, c.token_size)
    for stack in stacks:
        if c.position == "learned":
            rows = c.max_position + c.of_stack(stack).position_offset
            layers[f"{stack}position_embedding"] = _table(rows, c.token_size)
        if c.embedding_norm:
            layers[f"{stack}embedding_norm"] = _norm(c, c.token_size)
    if c.token_size != c.hidden_size or c.embedding_projection:
        layers["embedding_projection"] = _dense(c, c.token_size, c.hidden_size)
    return layers


def _stack(c, stack, count):
    layers = {}
    for i in range(count):
        name = "block" if c.share_blocks else f"{stack}block_{i}"
        norm_at = "pre_ffn" if i == 0 and not c.first_norm else c.norm_at
        block = _block(c, norm_at, stack == "decoder_")
        layers |= {f"{name}/{part}": variables for part, variables in block.items()}
    if c.final_norm:
        layers[f"{stack}final_norm"] = _norm(c, c.hidden_size)
    if c.position == "buckets":
        layers[f"{stack}relative_bias"] = _table(c.relative_buckets, c.num_attention_heads)
    if c.attention == "disentangled":
        layers["relative_vectors"] = _table(2 * c.relative_buckets, c.hidden_size)
        layers["relative_norm"] = _norm(c, c.hidden_size)
    if c.convolution:
        kernel = (c.convolution, c.hidden_size, c.hidden_size)
        layers["convolution"] = {"kernel": kernel, "bias": (c.hidden_size,)}
        layers["convolution_norm"] = _norm(c, c.hidden_size)
    return layers


def _block(c, norm_at, with_memory):
    branches = {"attention": _gau(c)} if c.attention == "gau" else {"attention": _attention(c)}
    if with_memory:
        branches["cross"] = _attention(c)
    if c.attention != "gau":
        branches["ffn"] = _feed_forward(c)
    layers = {
        f"{branch}/{part}": variables
        for branch, parts in branches.items()
        for part, variables in parts.items()
    }
    norms = (slot for slot in _NORM_SLOTS[norm_at] if slot.split("_")[0] in branches)
    return layers | {f"{slot}_norm": _norm(c, c.hidden_size) for slot in norms}


def _attention(c):
    def part(name, size, units):
        return _dense(c, size, units, f"attention/{name}")

    values = c.num_attention_heads * c.head_size
    norms = ("query_norm", "key_norm") if c.head_norm else ()
    return {
        **{name: _norm(c, c.key_size) for name in norms},
        "query": part("query", c.hidden_size, c.num_attention_heads * c.key_size),
        "key": part("key", c.hidden_size, c.kv_heads * c.key_size),
        "value": part("value", c.hidden_size, c.kv_heads * c.head_size),
        "output": part("output", values, c.hidden_size),
    }


def _gau(c):
    names = ("gamma", "beta") if c.use_bias else ("gamma",)
    scale = dict.fromkeys(names, (c.key_size,))
    return {
        "input": _dense(c, c.hidden_size, 2 * c.intermediate_size + c.key_size),
        "query_scale": scale,
        "key_scale": scale,
        "output": _dense(c, c.intermediate_size, c.hidden_size),
    }


def _feed_forward(c):
    layers = {"input": _dense(c, c.hidden_size, c.intermediate_size, "ffn/input")}
    if c.gated:
        layers["gate"] = _dense(c, c.hidden_size, c.intermediate_size, "ffn/gate")
    return layers | {"output": _dense(c, c.intermediate_size, c.hidden_size, "ffn/output")}


def _classifier(c):
    if not (head := c.head):
        return {}
    layers = {}
    if head.dense:
        layers[head.dense] = {"kernel": (c.hidden_size, c.hidden_size)}
        has_bias = c.use_bias if head.dense_bias is None else head.dense_bias
        layers[head.dense] |= {"bias": (c.hidden_size,)} if has_bias else {}
    layers |= {head.norm: _norm(c, c.hidden_size)} if head.norm else {}
    last = {"kernel": (c.hidden_size, c.num_labels)}
    last |= {"bias": (c.num_labels,)} if head.use_bias else {}
    return layers | {f"{c.with_classifier}_classifier": last}


def _heads(c):
    layers = {}
    if c.with_pool or c.with_nsp:
        layers["pooler"] = _dense(c, c.hidden_size, c.hidden_size)
    if c.with_nsp:
        layers["nsp"] = _dense(c, c.hidden_size, 2)
    if c.with_discriminator:
        layers["discriminator_dense"] = _dense(c, c.hidden_size, c.hidden_size)
        layers["discriminator_prediction"] = _dense(c, c.hidden_size, 1)
    if c.with_lm and c.lm_transform:
        layers["lm_dense"] = _dense(c, c.hidden_size, c.token_size)
        layers["lm_norm"] = _norm(c, c.token_size)
    if c.with_lm and not c.tie_word_embeddings:
        layers["lm_head"] = _table(c.vocab_size, c.token_size)
    if c.with_lm and c.lm_bias:
        layers["lm_bias"] = {"beta": (c.vocab_size,)}
    return layers
