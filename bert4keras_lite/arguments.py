"""Checks of arguments: unknown options, ranges, lists of ids, padding."""

import argparse
import contextlib
import functools
import inspect
import numbers
import sys
from typing import Any

import numpy as np

from .parsing import nearest, printable, shown
from .types import Function

__all__ = [
    "MOST",
    "RANGES",
    "check_flags",
    "check_list",
    "check_number",
    "check_options",
    "check_ranges",
    "check_right_padding",
    "checks_flags",
    "complain",
    "expected_number",
    "integers",
    "within",
]

# ranges of generation options, in which no value becomes 0 or infinite in float32. Options with
# integer bounds are integers.
RANGES = {
    "max_new_tokens": (1, 1 << 20),
    "min_new_tokens": (0, 1 << 20),
    "no_repeat_ngram_size": (0, 1024),
    "num_beams": (1, 1024),
    "num_return_sequences": (1, 1 << 16),
    "top_k": (1, 2**31 - 1),
    "top_p": (0.001, 1.0),
    "temperature": (0.001, 100.0),
    "repetition_penalty": (0.001, 100.0),
    "length_penalty": (-10.0, 10.0),
    "seed": (0, 2**64 - 1),
}
MOST = 2**31 - 1  # largest length or count
MAY_BE_NONE = {"max_new_tokens", "top_k", "top_p", "seed"}


def complain(error):
    """Prints an error to stderr, with control characters escaped, as it may quote a file."""
    print("error:", printable(error, keep="\n\t"), file=sys.stderr)


def checks_flags(function: Function) -> Function:
    """Decorates a function to raise if an argument whose default is a bool is not a bool.

    A string such as "no" would otherwise count as True.
    """

    flags = {
        name: isinstance(parameter.default, bool)
        for name, parameter in inspect.signature(function).parameters.items()
    }

    first_flag = list(flags.values()).index(True) if True in flags.values() else len(flags)

    def checked(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) > first_flag:
            check_flags(flags, dict(zip(flags, args, strict=False)) | kwargs)
        return function(*args, **kwargs)

    wrapper: Any = functools.wraps(function)(checked)
    wrapper.flags = flags
    return wrapper


def check_flags(flags, values):
    """Raises if the value of a flag is neither True nor False.

    Args:
        flags: dict of argument name -> whether it is a flag.
        values: dict of argument name -> value.

    Raises:
        ValueError: names the argument.
    """
    for name, value in values.items():
        if flags.get(name) and not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name}={shown(value)}: expected True or False.")


def check_list(name, values):
    """Raises if an argument is not an iterable such as a list; strings and dicts are rejected.

    Raises:
        TypeError: names the argument.
    """
    if isinstance(values, str | bytes | dict) or not np.iterable(values):
        raise TypeError(f"{name}: expected a list, got {shown(values)}.")


def check_ranges(**options):
    """Raises if an option is not within its range in `RANGES`.

    Raises:
        ValueError: names the option and its range.
    """
    for name, value in options.items():
        if value is not None or name not in MAY_BE_NONE:
            check_number(name, value, *RANGES[name])


def check_number(name, value, least, most):
    """Raises if a value is not a number from `least` to `most`; integer bounds require an integer.

    Raises:
        ValueError: names the argument and its range.
    """
    if expected := expected_number(value, least, most):
        raise ValueError(f"{name}={shown(value)}: expected {expected}.")


def expected_number(value, least, most):
    """Returns None if a value is valid for `check_number`, else a description of valid values."""
    whole = isinstance(least, int)
    cls = numbers.Integral if whole else numbers.Real  # not 2.0, which `range` does not accept
    if isinstance(value, cls) and not isinstance(value, bool) and least <= value <= most:
        return None
    return f"a {'whole ' if whole else ''}number from {least} to {most}"


def integers(name, values):
    """Converts values to an int64 array.

    Raises:
        ValueError: some are not integers, or rows differ in length; names the argument.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name}: expected rows of one length, got {shown(values)}.") from None
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: expected integers, got {array.dtype} of shape {array.shape}. Convert them."
        )
    return array.astype("int64")


def check_right_padding(name, rows, pad_token_id):
    """Raises if rows of token ids are padded on the left.

    A single padding token at the start of every row is allowed, as it is the start token of some
    models.

    Raises:
        ValueError: names the row.
    """
    starts = [int(np.argmax(np.append(row, pad_token_id - 1) != pad_token_id)) for row in rows]
    least = min(starts)
    for number, start in enumerate(starts):
        if start > min(least, 1):
            raise ValueError(
                f"{name}, row {number}: begins with {start} times the padding id {pad_token_id}; "
                'expected padding on the right. Use padding="right" in encode_batch.'
            )


def within(least, most):
    """Returns an argparse type for numbers of a range; see `check_number`."""

    def number(text):
        value = None
        with contextlib.suppress(ValueError):
            value = type(least)(text)
        if expected := expected_number(value, least, most):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {shown(text)}.")
        return value

    return number


def check_options(function, options, known, other_names=None):
    """Raises if a function does not have an option.

    Args:
        function: name of the function, for the message.
        options: names of the given options.
        known: names of the function's options.
        other_names: dict of names in other libraries -> our name.

    Raises:
        TypeError: names the option, and suggests a similar one.
    """
    other_names = other_names or {}
    for name in options:
        if name in known:
            continue
        near = [name] if name in other_names else []
        near = near or nearest(name, [*known, *other_names])
        raise TypeError(
            f"{function} has no option {name!r:.200}"
            + (
                f"; did you mean {other_names.get(near[0], near[0])!r}?"
                if near
                else f". It has: {', '.join(sorted(known))}."
            )
        )
