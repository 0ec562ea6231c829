"""bert4keras 0.11.5 under its own names, so that scripts written for it run on Keras 3.

`from bert4keras.layers import ...` becomes `from bert4keras_lite.compat.layers import ...`, and so
on for `backend`, `models`, `optimizers`, `snippets` and `tokenizers`; `python -m bert4keras_lite
migrate` makes these changes. New scripts do not need this package:
docs/moving-from-bert4keras.md.

Arguments, defaults and results are those of bert4keras. What it does wrong (Lookahead, gradient
accumulation) is done right here. Nothing of Keras is changed on import.
"""

__all__ = ["backend", "layers", "models", "optimizers", "snippets", "tokenizers"]
