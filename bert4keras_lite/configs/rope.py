"""Rotary positions for texts that are longer than those of pretraining, as configs describe it.

Uses no framework; the angles are computed by `layers.RotaryAngles`.
"""

import math
from typing import Any, NamedTuple

from ..arguments import expected_number
from ..parsing import shown

__all__ = ["LENGTH", "TYPES", "attention_factor", "expected_scaling"]


class ScalingType(NamedTuple):
    """What a `rope_type` of `rotary_scaling` needs.

    Attributes:
        required, optional: keys whose values are numbers.
    """

    required: tuple[str, ...] = ("factor",)
    optional: tuple[str, ...] = ()


LENGTH = "original_max_position_embeddings"  # most tokens in pretraining

TYPES = {
    "linear": ScalingType(),
    "dynamic": ScalingType(("factor", LENGTH)),
    "llama3": ScalingType(("factor", "low_freq_factor", "high_freq_factor", LENGTH)),
    "yarn": ScalingType(
        ("factor", LENGTH),
        ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    ),
}


def expected_scaling(scaling: Any) -> str | None:
    """Describes what a value of `Config.rotary_scaling` should be, or returns None if it is."""
    kinds = f"a dict with a rope_type: {', '.join(TYPES)}"
    if not isinstance(scaling, dict) or not isinstance(scaling.get("rope_type"), str):
        return kinds
    kind = TYPES.get(scaling["rope_type"])
    if kind is None:
        return kinds
    keys = scaling.keys() - {"rope_type", "truncate"}
    known = {*kind.required, *kind.optional}
    if missing := [key for key in kind.required if key not in keys]:
        return f"{', '.join(missing)} for the rope_type {scaling['rope_type']!r}"
    if unknown := [key for key in scaling if key not in known and key != "rope_type"]:
        return f"no {shown(unknown[0])} for the rope_type {scaling['rope_type']!r}"
    if not isinstance(scaling.get("truncate", True), bool):
        return "true or false for truncate"
    for key in sorted(keys):
        if problem := expected_number(scaling[key], 1e-6, 1e9):
            return f"for {key} {problem}"
    if scaling["rope_type"] == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        return None if low < high else "a low_freq_factor below high_freq_factor"
    if scaling["rope_type"] == "yarn":
        fast, slow = scaling.get("beta_fast", 32), scaling.get("beta_slow", 1)
        return None if slow < fast else "a beta_slow below beta_fast"
    return None


def attention_factor(scaling: dict[str, Any] | None) -> float:
    """Returns the factor of rotated queries, and of keys, that YaRN adds.

    Args:
        scaling: a value of `Config.rotary_scaling`.

    Reference:
        Peng et al., "YaRN", arXiv 2309.00071, equation 22; with two `mscale`s: DeepSeek-V2.
    """
    if scaling is None or scaling["rope_type"] != "yarn":
        return 1.0
    if "attention_factor" in scaling:
        return float(scaling["attention_factor"])

    def stretched(scale):
        factor = scaling["factor"]
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    scales = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return stretched(scales[0]) / stretched(scales[1]) if all(scales) else stretched(1)
