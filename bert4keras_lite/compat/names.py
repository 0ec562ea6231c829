"""Names of bert4keras, Keras 2 and TensorFlow 1 without a counterpart, and what to use instead."""

__all__ = ["GONE", "GONE_IN_KERAS", "GONE_IN_TENSORFLOW", "NO_COUNTERPART"]

SESSIONS = "there are no sessions and graphs: remove it."
# `K.name`
GONE = {
    "gradients": "Keras 3 has no symbolic gradients. Use adversarial_training,"
    " virtual_adversarial_training or gradient_penalty of bert4keras_lite.training; for integrated"
    " gradients see examples/task_sentiment_integrated_gradients.py; for others"
    " tensorflow.GradientTape, jax.grad or torch.autograd.grad.",
    "get_session": SESSIONS,
    "set_session": SESSIONS,
    "learning_phase": "pass training=True or False when you call a model or layer.",
    "set_learning_phase": "pass training=True or False when you call a model or layer.",
    "rnn": "write the loop with keras.ops.scan, or use a layer such as keras.layers.RNN.",
    "placeholder": "use keras.Input.",
}
# names in modules of Keras 2
GONE_IN_KERAS = {
    "multi_gpu_model": "use keras.distribution.DataParallel or tensorflow.distribute; see"
    " examples/basic_several_devices.py.",
    "CuDNNLSTM": "use LSTM, which is as fast.",
    "CuDNNGRU": "use GRU, which is as fast.",
    "merge": "use Add, Multiply or Concatenate.",
}
GONE_IN_TENSORFLOW = {
    f"tf.{name}": SESSIONS
    for name in (
        *("Session", "InteractiveSession", "ConfigProto", "GPUOptions", "get_default_graph"),
        *("placeholder", "global_variables_initializer", "Graph", "reset_default_graph"),
    )
}
# names of bert4keras, and what scripts do to models
NO_COUNTERPART = {
    "train_function": "Keras 3 has no train function that can be replaced. Use bert4keras_lite."
    "training.adversarial_training(model, epsilon=0.5) after compile, or"
    " virtual_adversarial_training, gradient_penalty, rdrop.",
    "data_parallel": "use keras.distribution.DataParallel or tensorflow.distribute; see"
    " examples/basic_several_devices.py.",
    "integerize_shape": "shapes are integers in Keras 3: remove the decorator.",
    "GatedAttentionUnit": "use bert4keras_lite.layers.GatedAttentionUnit: its call takes bias= and"
    " angles= instead of a list.",
    "RelativePositionEmbedding": "use bert4keras_lite.layers.RelativeVectors.",
    "RelativePositionEmbeddingT5": "use bert4keras_lite.layers.RelativeBias.",
}
