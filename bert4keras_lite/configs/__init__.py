"""Model configs: the fields, the families, and reading published config files.

Uses no framework: reading a config and recognizing a family do not need Keras.
"""

from .architectures import APPLICATIONS, ARCHITECTURES, HUGGING_FACE, MODEL_TYPES
from .config import CHOICES, SOURCE_KEYS, Config, key_of, to_field_names
from .published import (
    check_adapter,
    check_unknown_keys,
    check_vocabulary,
    config_in,
    file_names,
    find_files,
    gate_of,
    moved_padding,
    read_config,
    translate,
    warn,
    write_config,
)
from .recognition import (
    MEASURED,
    check_family,
    check_not_roberta,
    infer_from_weights,
    is_initial_norm,
    known_issues,
    recognize,
    resolve_ambiguities,
    unmatched_names,
)
from .weights import HEADS, heads_among, match_weights, mismatch_hint, write

__all__ = [
    "APPLICATIONS",
    "ARCHITECTURES",
    "CHOICES",
    "HEADS",
    "HUGGING_FACE",
    "MEASURED",
    "MODEL_TYPES",
    "SOURCE_KEYS",
    "Config",
    "check_adapter",
    "check_family",
    "check_not_roberta",
    "check_unknown_keys",
    "check_vocabulary",
    "config_in",
    "file_names",
    "find_files",
    "gate_of",
    "heads_among",
    "infer_from_weights",
    "is_initial_norm",
    "key_of",
    "known_issues",
    "match_weights",
    "mismatch_hint",
    "moved_padding",
    "read_config",
    "recognize",
    "resolve_ambiguities",
    "to_field_names",
    "translate",
    "unmatched_names",
    "warn",
    "write",
    "write_config",
]
