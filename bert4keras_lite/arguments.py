"""What a function says of an option that it does not have."""

import difflib


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
        near = near or difflib.get_close_matches(name, [*known, *other_names], 1)
        raise TypeError(
            f"{function} has no option {name!r}"
            + (
                f"; did you mean {other_names.get(near[0], near[0])!r}?"
                if near
                else f". It has: {', '.join(sorted(known))}."
            )
        )
