"""The value of an arithmetic expression, such as a model writes: exact, and safe.

Nothing is ever handed to Python. Expressions are read by the grammar below and computed in
fractions; length, nesting, exponents and the size of numbers are limited, so that no text, whatever
it is, takes long.

    sum      product { ("+" | "-") product }
    product  power { ("*" | "/" | ":") power }
    power    ("+" | "-") power  |  postfix [ ("**" | "^") power ]
    postfix  atom { "%" }
    atom     number [ "(" digits "/" digits ")" ]  |  "(" sum ")"

`1(1/2)` is one and a half, as school books have it; `x=` may stand before the expression.
"""

import re
from fractions import Fraction

TOKENS = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|(\*\*|[-+*/:^%()]))")
MIXED = re.compile(r"\s*\(\s*(\d+)\s*/\s*(\d+)\s*\)")
LONGEST = 300  # characters
DEEPEST = 50  # parentheses, signs and powers within each other
LARGEST = 2000  # bits of a numerator or denominator


class NotArithmetic(ValueError):
    """The text is not an expression, or its value is not defined, or too large."""


def value(expression):
    """The value of an expression.

    Args:
        expression: a string.

    Returns:
        A `Fraction`.

    Raises:
        NotArithmetic: says what is wrong.

    Example:
        >>> value("x=12*(1-25%)+1(1/2)")
        Fraction(21, 2)
    """
    if len(expression) > LONGEST:
        raise NotArithmetic(f"{len(expression)} characters; at most {LONGEST} are read")
    reader = Reader(expression.removeprefix("x="))
    result = reader.sum(0)
    if reader.next is not None:
        raise NotArithmetic(f"{expression!r}: did not expect {reader.next!r}")
    return result


class Reader:
    """Reads an expression from left to right, a method for each line of the grammar."""

    def __init__(self, text):
        self.text, self.place = text.strip(), 0
        self.advance()

    def advance(self):
        """Goes on to the next token: a Fraction, a sign, or None at the end."""
        if self.place == len(self.text):
            self.next = None
            return
        match = TOKENS.match(self.text, self.place)
        if not match:
            raise NotArithmetic(f"{self.text!r}: did not expect {self.text[self.place]!r}")
        number, sign = match.groups()
        self.place = match.end()
        self.next = sign or Fraction(number)
        if number and (fraction := MIXED.match(self.text, self.place)):
            self.place = fraction.end()
            self.next += divide(*map(Fraction, fraction.groups()))

    def take(self, *signs):
        """The next token, if it is one of the signs."""
        if self.next in signs and isinstance(self.next, str):
            sign = self.next
            self.advance()
            return sign
        return None

    def sum(self, depth):
        total = self.product(depth)
        while sign := self.take("+", "-"):
            term = self.product(depth)
            total = checked(total + term if sign == "+" else total - term)
        return total

    def product(self, depth):
        total = self.power(depth)
        while sign := self.take("*", "/", ":"):
            factor = self.power(depth)
            total = checked(total * factor if sign == "*" else divide(total, factor))
        return total

    def power(self, depth):
        if depth > DEEPEST:
            raise NotArithmetic(f"nested more than {DEEPEST} deep")
        if sign := self.take("+", "-"):
            return self.power(depth + 1) * (-1 if sign == "-" else 1)
        base = self.postfix(depth)
        return raised(base, self.power(depth + 1)) if self.take("**", "^") else base

    def postfix(self, depth):
        number = self.atom(depth)
        while self.take("%"):
            number = checked(number / 100)
        return number

    def atom(self, depth):
        if self.take("("):
            result = self.sum(depth + 1)
            if not self.take(")"):
                raise NotArithmetic(f"{self.text!r}: a parenthesis is not closed")
            return result
        number = self.next
        if not isinstance(number, Fraction):
            raise NotArithmetic(f"{self.text!r}: expected a number, got {number or 'the end'!r}")
        self.advance()
        return number


def divide(x, y):
    if not y:
        raise NotArithmetic("division by zero")
    return x / y


def raised(base, exponent):
    """A power; its size is known before it is computed."""
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or bits * abs(exponent) > LARGEST:
        raise NotArithmetic(
            f"the exponent {float_or_huge(exponent)} is not a whole number, or too large"
        )
    if not base and exponent < 0:
        raise NotArithmetic("division by zero")
    return base ** int(exponent)


def checked(x):
    if max(x.numerator.bit_length(), x.denominator.bit_length()) > LARGEST:
        raise NotArithmetic("the numbers become too large")
    return x


def float_or_huge(x):
    return float(x) if x.numerator.bit_length() - x.denominator.bit_length() < 1000 else "(huge)"
