"""What a function says of an option that it does not have, or that is out of its range."""

import argparse
import contextlib
import functools
import inspect
import numbers
import sys

import numpy as np

from .parsing import nearest, printable, shown

# the least and the most of options of generation: none becomes 0 or infinite in float32. Those with
# whole ends are whole numbers.
RANGES = {
    "max_new_tokens": (1, 1 << 20),
    "min_new_tokens": (0, 1 << 20),
    "num_beams": (1, 1024),
    "num_return_sequences": (1, 1 << 16),
    "top_k": (1, 2**31 - 1),
    "top_p": (0.001, 1.0),
    "temperature": (0.001, 100.0),
    "repetition_penalty": (0.001, 100.0),
    "length_penalty": (-10.0, 10.0),
    "seed": (0, 2**64 - 1),
}
MAY_BE_NONE = {"max_new_tokens", "top_k", "top_p", "seed"}


def complain(error):
    """Prints an error, in which names out of a file may be, as command lines do."""
    print("error:", printable(error, keep="\n\t"), file=sys.stderr)


def checks_flags(function):
    """Makes a function refuse anything but True and False for what is one of them by default.

    A text such as "no" would count as True.
    """

    @functools.wraps(function)
    def checked(*args, **kwargs):
        check_flags(checked.flags, dict(zip(checked.flags, args, strict=False)) | kwargs)
        return function(*args, **kwargs)

    checked.flags = {
        name: isinstance(parameter.default, bool)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    return checked


def check_flags(flags, values):
    """Raises where a value is neither True nor False.

    Args:
        flags: name -> whether that is what its value has to be.
        values: name -> value.

    Raises:
        ValueError: names the argument.
    """
    for name, value in values.items():
        if flags.get(name) and not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name}={shown(value)}: expected True or False.")


def check_list(name, values):
    """Raises where an argument is no list or array, or anything else to go through but a text or a dict.

    Raises:
        TypeError: names the argument.
    """
    if isinstance(values, str | bytes | dict) or not np.iterable(values):
        raise TypeError(f"{name}: expected a list, got {shown(values)}.")


def check_ranges(**options):
    """Raises where an option is not within its range in `RANGES`.

    Raises:
        ValueError: names the option, and what was expected.
    """
    for name, value in options.items():
        if value is not None or name not in MAY_BE_NONE:
            check_number(name, value, *RANGES[name])


def check_number(name, value, least, most):
    """Raises where a value is no number from `least` to `most`, or no whole one if these are whole.

    Raises:
        ValueError: names the value, and what was expected.
    """
    if expected := expected_number(value, least, most):
        raise ValueError(f"{name}={shown(value)}: expected {expected}.")


def expected_number(value, least, most):
    """The number that is expected, in words, if a value is none; else None: see `check_number`."""
    whole = isinstance(least, int)
    kind = numbers.Integral if whole else numbers.Real  # 2.0 counts nothing: a loop refuses it
    if isinstance(value, kind) and not isinstance(value, bool) and least <= value <= most:
        return None
    return f"a {'whole ' if whole else ''}number from {least} to {most}"


def integers(name, values):
    """Values as an array of integers.

    Raises:
        ValueError: some are no whole numbers, or rows differ in length; names the values.
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
    """Raises where rows of token ids are padded on the left.

    That one padding token begins each row is none: some models have it for a start token.

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
    """The type of a command line's argument that is a number of a range: see `check_number`."""

    def number(text):
        value = None
        with contextlib.suppress(ValueError):
            value = type(least)(text)
        if expected := expected_number(value, least, most):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {shown(text)}.")
        return value

    return number


def check_options(function, options, known, other_names=None):
    """Raises where an option does not exist.

    Args:
        function: its name, for the message.
        options: those that were given.
        known: names of those that there are.
        other_names: dict of what others call an option -> ours.

    Raises:
        TypeError: names the option, and suggests the nearest.
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
