"""Jinja templates of untrusted files, rendered within limits; needs jinja2.

jinja2's sandbox keeps a template from Python's internals; what it does not limit is limited here.
Every operation whose cost depends on its operands first spends their size from a `Budget`, so that
a template ends after a bounded number of characters and seconds, whatever it does:

- output, and the operands of `~`, `in`, `==`, slices and literals: the syntax tree is rewritten by
  `Spending`, so that they pass the filter `spent`;
- arithmetic, calls and filters: the hooks of jinja2's environment;
- loops, macros and blocks: each run of their body spends something.

Filters and methods that chat templates do not need are left out.
"""

import functools
import json
import re
from contextvars import ContextVar
from datetime import datetime
from importlib.metadata import version
from time import thread_time

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

__all__ = ["RejectedError", "render"]

if tuple(map(int, version("jinja2").split(".")[:3])) < (3, 1, 6):
    raise ImportError("jinja2: expected 3.1.6 or newer, as templates can leave older sandboxes.")

LONGEST_TEMPLATE = 1 << 17  # characters
LONGEST = 1 << 22  # characters of a text that a template makes
MOST = 1 << 26  # characters that it may spend, see `size_of`
SECONDS = 3  # processor time
ITEM = 32  # characters that any value takes, besides those of its text
MOST_BITS = 1000  # of an integer
WIDEST = 16  # spaces by which `tojson` and `indent` may indent

# Patterns of names. Quick filters and tests take the same time for all values.
_QUICK_FILTERS = "count|d|default|first|items|last|length"
_FILTERS = (
    "abs|capitalize|dictsort|e|escape|float|int|list|lower|map|max|min|reject|rejectattr|reverse|"
    "safe|select|selectattr|sort|string|title|trim|unique|upper"
)
_QUICK_TESTS = (
    "boolean|callable|defined|false|float|integer|iterable|mapping|none|number|sequence|string|"
    "true|undefined"
)
_METHODS = (
    (
        str,
        "capitalize|count|endswith|find|index|isalnum|isalpha|isdigit|islower|isnumeric|isspace|"
        "isupper|join|lower|lstrip|partition|removeprefix|removesuffix|replace|rfind|rindex|"
        "rpartition|rsplit|rstrip|split|splitlines|startswith|strip|title|upper",
    ),
    (dict, "get|items|keys|values"),
    (list | tuple, "count|index"),
)
_CONTAINERS: tuple = (
    *(list, tuple, set, frozenset),
    *(type({}.keys()), type({}.values()), type({}.items())),
)
_SCOPES = ("_loop_vars", "_block_vars")  # which jinja2 passes to calls, besides their arguments
_DIRECTIVES = re.compile(r"(%-?[aAbBcdHIjmMpSUwWxXyYzZf%]|[^%]){0,100}")


class LimitError(Exception):
    """A template exceeds a limit."""


class RejectedError(Exception):
    """A template calls `raise_exception`."""


class Budget:
    """What a template may still spend, in characters."""

    def __init__(self):
        self.left, self.deadline = MOST, thread_time() + SECONDS

    def spend(self, size):
        self.left -= size
        if self.left < 0:
            raise LimitError(f"it makes or reads more than {MOST} characters.")
        if thread_time() > self.deadline:
            raise LimitError(f"it takes more than {SECONDS} seconds.")


_BUDGET: ContextVar[Budget] = ContextVar("budget")


def spend(*values):
    """Spends the size of values.

    Raises:
        LimitError: the budget is spent, or a value is too large.
    """
    budget = _BUDGET.get()
    budget.spend(size_of(values, budget.left))


def spend_characters(count):
    """Spends a number of characters of one text, before it is made."""
    if count > LONGEST:
        raise LimitError(f"it makes a text of more than {LONGEST} characters.")
    _BUDGET.get().spend(count)


def size_of(value, most):
    """Returns the characters that a value takes as text; parts that it has twice count twice.

    Args:
        value: any value.
        most: counting ends above it.
    """
    size, stack = 0, [value]
    while stack and size <= most:
        value = stack.pop()
        size += ITEM
        if isinstance(value, str):
            size += len(value)
            if len(value) > LONGEST:
                raise LimitError(f"it makes a text of more than {LONGEST} characters.")
        elif isinstance(value, int):
            if value.bit_length() > MOST_BITS:
                raise LimitError(f"it computes an integer of more than {MOST_BITS} bits.")
        elif isinstance(value, range):
            size += ITEM * len(value)
        elif isinstance(value, dict):
            stack += value.keys()
            stack += value.values()
        elif isinstance(value, _CONTAINERS):
            stack += value
    return size


class Spending(NodeTransformer):
    """Rewrites a syntax tree so that all that takes time or memory spends it."""

    def __init__(self, environment):
        self.environment = environment

    def spent(self, node):
        """Returns the node of a value that is spent when it is used."""
        if node is None or isinstance(node, nodes.Const):
            return node
        return self.new(nodes.Filter, node.lineno, node, "spent", [], [], None, None)

    def new(self, cls, line, *fields):
        return cls(*fields, lineno=line, environment=self.environment)

    def visit_TemplateData(self, node):
        return self.new(nodes.Const, node.lineno, node.data)  # or it would pass by `finalize`

    def visit_operands(self, node):
        self.generic_visit(node)
        node.nodes = list(map(self.spent, node.nodes))
        return node

    visit_Concat = visit_operands

    def visit_literal(self, node):
        self.generic_visit(node)
        if getattr(node, "ctx", "load") == "load":
            node.items = list(map(self.spent, node.items))
        return node

    visit_List = visit_Tuple = visit_literal

    def visit_Pair(self, node):
        self.generic_visit(node)
        node.key, node.value = self.spent(node.key), self.spent(node.value)
        return node

    def visit_Compare(self, node):
        self.generic_visit(node)
        node.expr = self.spent(node.expr)
        return node

    def visit_Operand(self, node):
        self.generic_visit(node)
        node.expr = self.spent(node.expr)
        return node

    def visit_Getitem(self, node):
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = self.spent(node.node)
        else:
            node.arg = self.spent(node.arg)
        return node

    def visit_body(self, node):
        self.generic_visit(node)
        nothing = self.new(nodes.Const, node.lineno, None)
        step = self.new(nodes.Filter, node.lineno, nothing, "spent", [], [], None, None)
        node.body = [self.new(nodes.ExprStmt, node.lineno, step), *node.body]
        return node

    visit_Macro = visit_CallBlock = visit_Block = visit_body

    def visit_For(self, node):
        self.visit_body(node)
        node.iter = self.spent(node.iter)
        return node


class Generation(Extension):
    """`{% generation %}`, which marks what a model has written; here it only has a scope."""

    tags = {"generation"}  # noqa: RUF012 - as in jinja2

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


@jinja2.pass_context
def spent(context, value):
    """Filter: spends a value and returns it."""
    spend(value)
    return value


@jinja2.pass_context  # so that constants, too, are output while the template runs
def output(context, value):
    spend(value)
    return str(value)


def replaced(text, old, new, count=None):
    text, old, new = str(text), str(old), str(new)
    times = text.count(old) if count is None else min(text.count(old), max(0, count))
    spend_characters(len(text) + times * len(new))
    return text.replace(old, new, -1 if count is None else count)


def joined(items, separator):
    """Returns the items of an iterable as a list after spending what joins them."""
    items = list(items)
    spend(items)
    spend_characters(len(items) * len(separator))
    return items


@jinja2.pass_eval_context
def join(context, value, d="", attribute=None):
    items = joined(value, str(d))
    return jinja2.filters.do_join(context, items, d, attribute)


def indent(s, width=4, first=False, blank=False):
    spaces = len(width) if isinstance(width, str) else width
    _check_width(spaces)
    spend_characters(len(s) + (s.count("\n") + 1) * spaces)
    return jinja2.filters.do_indent(s, width, first, blank)


def _check_width(width):
    if not isinstance(width, int) or not 0 <= width <= WIDEST:
        raise LimitError(f"it indents by more than {WIDEST} spaces.")


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """Filter: the JSON of a value, with the options and the defaults of transformers."""
    _check_width(len(indent) if isinstance(indent, str) else indent or 0)
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    pieces = []
    for piece in encoder.iterencode(value):
        spend(piece)
        pieces.append(piece)
    return "".join(pieces)


def within_budget(function):
    """Returns a filter that spends its operands, and its result."""

    @functools.wraps(function)  # with jinja2's marks
    def bounded(*arguments, **options):
        spend(arguments, options)
        result = function(*arguments, **options)
        spend(result)
        return result

    return bounded


def raise_exception(message):
    raise RejectedError(str(message)[:LONGEST])


def strftime_now(format):
    if not _DIRECTIVES.fullmatch(format):
        raise LimitError("it formats the time with unusual directives.")
    return datetime.now().strftime(format)


class Names(Namespace):
    """A namespace without private attributes, whose text does not show what it holds."""

    def __init__(*arguments, **attributes):
        Namespace.__init__(*arguments, **attributes)
        for name in dict(*arguments[1:], **attributes):
            _check_name(name)

    def __setitem__(self, name, value):
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self):
        return "<Namespace>"


def _check_name(name):
    if not isinstance(name, str) or name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a private attribute, {name!r:.50}.")


def new_dict(*arguments, **items):
    return dict(*arguments, **items)


class Environment(ImmutableSandboxedEnvironment):
    """The environment of all templates: jinja2's sandbox, with the settings of transformers."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self):
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Generation, "jinja2.ext.loopcontrols"],
            optimized=False,
            finalize=output,
        )
        self.filters = {
            **{n: x for n, x in self.filters.items() if re.fullmatch(_QUICK_FILTERS, n)},
            **{n: within_budget(x) for n, x in self.filters.items() if re.fullmatch(_FILTERS, n)},
            **{"spent": spent, "replace": replaced, "join": join},
            **{"indent": indent, "tojson": within_budget(tojson)},
        }
        self.tests = {
            n: x if re.fullmatch(_QUICK_TESTS, n) else within_budget(x)
            for n, x in self.tests.items()
        }
        self.globals = {
            "range": within_budget(self.globals["range"]),
            **{"dict": new_dict, "namespace": Names},
            **{"raise_exception": raise_exception, "strftime_now": strftime_now},
        }

    def is_safe_attribute(self, obj, attr, value):
        for cls, names in _METHODS:
            if isinstance(obj, cls):
                return re.fullmatch(names, attr) is not None
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value):
        return None  # `format` is not safe: a width in it makes a text of any length

    def call(self, context, obj, /, *arguments, **given):
        options = {name: value for name, value in given.items() if name not in _SCOPES}
        spend(arguments, options)
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str | list | tuple | dict):
            spend(owner)
        if isinstance(owner, str) and obj.__name__ == "replace":
            return replaced(owner, *arguments, **options)
        if isinstance(owner, str) and obj.__name__ == "join":
            arguments = tuple(joined(items, owner) for items in arguments)
        return super().call(context, obj, *arguments, **given)

    def call_binop(self, context, operator, left, right):
        spend(left, right)
        for value, times in ((left, right), (right, left)):
            if operator == "*" and isinstance(value, str | list | tuple) and type(times) is int:
                spend_characters(size_of(value, LONGEST) * max(0, times))
        if operator == "%" and isinstance(left, str):
            raise LimitError("it formats a text by %.")
        if operator == "**" and not (isinstance(right, int) and abs(right) <= MOST_BITS):
            raise LimitError(f"it computes a power with an exponent above {MOST_BITS}.")
        result = super().call_binop(context, operator, left, right)
        spend(result)
        return result

    @functools.lru_cache(maxsize=16)  # noqa: B019 - there is one environment
    def compiled(self, text):
        tree = Spending(self).visit(self.parse(text))
        code = self.compile(tree)
        return jinja2.Template.from_code(self, code, self.make_globals(None))


ENVIRONMENT = Environment()


def render(text, variables):
    """Returns the text that a template makes of variables.

    Args:
        text: the template.
        variables: dict of name -> JSON-like value; other objects would give the template access to
            their methods.

    Raises:
        RejectedError: the template rejects the variables; with its message.
        ValueError: the template is invalid, or exceeds a limit.
    """
    token = _BUDGET.set(Budget())
    try:
        if len(text) > LONGEST_TEMPLATE:
            raise LimitError(f"it has more than {LONGEST_TEMPLATE} characters.")
        result = ENVIRONMENT.compiled(text).render(variables)
        spend(result)
        return result
    except RejectedError:
        raise
    except LimitError as error:
        raise ValueError(str(error)) from None
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise ValueError(f"it is nested too deeply ({type(error).__name__}).") from None
    except Exception as error:  # a template can raise whatever its operations raise
        raise ValueError(f"{type(error).__name__}: {error!s:.300}") from None
    finally:
        _BUDGET.reset(token)
