"""Classifiers of fine-tuned checkpoints: their kind and their labels, as config files have them.

Uses no framework.
"""

from ..parsing import shown
from .architectures import FAMILIES, KINDS
from .config import FILE_PADDING, SUMMARY

__all__ = ["classifier_fields", "named_kind"]

# classes of other libraries whose names do not end like those of transformers -> kind
OTHER_CLASSES = {"UIE": "spans", "UIEModel": "spans"}


def named_kind(values):
    """Returns the kind of classifier (a key of `KINDS`) that `architectures` names, or None.

    Args:
        values: of a config.
    """
    names = [str(name) for name in values.get("architectures") or ()]
    kinds = [kind for kind, end in KINDS.items() if any(name.endswith(end) for name in names)]
    kinds += [OTHER_CLASSES[name] for name in names if name in OTHER_CLASSES]
    return kinds[0] if len(kinds) == 1 else None


def classifier_fields(family, asked, values, where, is_new=False):
    """Returns the fields of `Config` for the classifier that is asked for.

    Args:
        family: a key of `FAMILIES`.
        asked: `with_classifier` of the options or the file; None: nobody asked.
        values: of the config file.
        where: name of the config in messages.
        is_new: whether a new classifier is started, whatever that of the file is.

    Raises:
        ValueError: the kind is unknown, or the config names another.
    """
    named = named_kind(values)
    if asked is True and named is None:
        raise ValueError(
            f"{where}: architectures is {shown(values.get('architectures'))}, which names no "
            "classifier; expected a class such as 'BertForSequenceClassification'. Pass the kind, "
            f"with_classifier= one of {', '.join(KINDS)}."
        )
    kind = named if asked is True else asked
    if not isinstance(kind, str) or kind not in KINDS:
        return {} if kind is None else {"with_classifier": kind}  # False, or an error of `Config`
    if named not in (None, kind) and not is_new:
        raise ValueError(
            f"{where}: architectures means with_classifier={named!r}, got {kind!r}. Pass "
            "with_classifier=True, or new_classifier=True to start another classifier."
        )
    head = FAMILIES[family].heads.get(kind)
    if head and head.dense == "choice_dense":
        _check_summary(values, where)
    fields = {"with_classifier": kind, "with_lm": False}
    if kind in ("text", "tokens") and not is_new:
        fields["labels"] = labels_of(values.get("id2label"), where)
    if head and head.position == "last":
        fields["filler_id"] = values.get(FILE_PADDING)
    return {name: value for name, value in fields.items() if value is not None}


def _check_summary(values, where):
    """Checks that the layer before ELECTRA's classifier of choices is the one that is implemented.

    Raises:
        ValueError: a key of the config describes another.
    """
    for key, only in SUMMARY.items():
        if key in values and values[key] != only:
            raise ValueError(
                f"{where}: {key} is {shown(values[key])}; expected {only!r}. Other values mean a "
                "classifier of choices that is not implemented."
            )


def labels_of(id2label, where):
    """Returns the names of the labels, ordered by their numbers; None if the config has none.

    Args:
        id2label: number (as JSON has it, a string) -> name; or a list of names.
        where: name of the config in messages.

    Raises:
        ValueError: a number from 0 to the largest has no name, or two.
    """
    if not id2label:
        return None
    pairs = enumerate(id2label) if isinstance(id2label, list) else ()
    pairs = [*(id2label.items() if isinstance(id2label, dict) else pairs)]
    names = {str(number): str(name) for number, name in pairs}
    numbers = [str(number) for number in range(len(pairs))]  # not "00", which is 0 again
    are_names = all(isinstance(name, str | int | float) for _, name in pairs)  # ratings, too
    if not names or names.keys() != {*numbers} or not are_names:
        raise ValueError(
            f"{where}: id2label is {shown(id2label)}; expected a name for each number from 0. "
            "Correct it, or pass labels=."
        )
    return tuple(names[number] for number in numbers)
