"""Reads and writes protocol buffers, from which files of several formats are made.

Reference: https://protobuf.dev/programming-guides/encoding.
"""

__all__ = [
    "FIXED",
    "MESSAGE",
    "VARINT",
    "encode_field",
    "encode_varint",
    "read_fields",
    "read_varint",
]

VARINT, MESSAGE, FIXED = 0, 2, 5  # wire types: integers, bytes with their length, four bytes
_WIDTHS = {1: 8, FIXED: 4}  # bytes of a number, by wire type


def read_varint(data, at):
    """Reads the varint at position `at` of a protocol buffer: seven bits a byte, lowest first.

    Returns:
        The integer, and the position after it.

    Raises:
        ValueError: it does not end within ten bytes, has more than 64 bits (other parsers truncate
            it), or has zero bytes at its end.
    """
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value >= 1 << 64:
                break
            if not byte and i:
                raise ValueError("an integer that takes more bytes than it needs")
            return value, at + i + 1
    raise ValueError("an integer that is cut off, or of more than 64 bits")


def read_fields(data):
    """Yields the fields of a protocol buffer, in order.

    Yields:
        `(number, value, start, end)`: the value is an int or bytes; the field, with its number, is
        `data[start:end]`.

    Raises:
        ValueError: the data is damaged, has groups, which are obsolete, or invalid field numbers,
            which other parsers truncate.
    """
    end = 0
    while end < len(data):
        start = end
        tag, at = read_varint(data, start)
        if not 8 <= tag < 1 << 32:
            raise ValueError(f"field {tag >> 3} in a protocol buffer")
        wire = tag & 7
        if wire == VARINT:
            value, end = read_varint(data, at)
        elif wire in _WIDTHS:
            end = at + _WIDTHS[wire]
            value = int.from_bytes(data[at:end], "little")
        elif wire == MESSAGE:
            length, at = read_varint(data, at)
            end = at + length
            value = data[at:end]
        else:
            raise ValueError(f"wire type {wire} in a protocol buffer")
        if end > len(data):
            raise ValueError("a protocol buffer that is cut off")
        yield tag >> 3, value, start, end


def encode_varint(number):
    """Encodes an integer, not below 0, as a varint."""
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*data, number))


def encode_field(number, value):
    """Encodes a field: an integer, or bytes (or a string, or another message) with their length."""
    if isinstance(value, int):
        return encode_varint(number << 3 | VARINT) + encode_varint(value)
    return encode_varint(number << 3 | MESSAGE) + encode_varint(len(value)) + value
