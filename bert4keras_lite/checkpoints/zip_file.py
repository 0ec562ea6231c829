"""Zip archives whose members are stored as they are, and can therefore be mapped into memory."""

import zipfile

from .base import damaged

MAX_RATIO = 1032  # of deflate: data that claims to grow more than so many times is damaged
# what follows the bytes of a member: sizes and checksum if its flags say so, or the next record
DESCRIPTOR, NEXT = (b"PK\7\x08",), (b"PK\3\4", b"PK\1\2")


def open_zip(file):
    """The archive in a `MappedFile`, once no member claims more than the file can hold."""
    archive = zipfile.ZipFile(file.path)
    for member in archive.infolist():
        stored = member.compress_type == zipfile.ZIP_STORED
        limit = member.compress_size * (1 if stored else MAX_RATIO)
        if member.compress_size > file.size or member.file_size > limit:
            archive.close()
            raise _damaged(file, member)
    return archive


def stored_at(file, archive, name):
    """The offset in `file` of the bytes of an uncompressed member.

    A local header has a length of its own for an extra field, which the archive's directory does
    not repeat; that the next record begins behind the bytes shows that it is undamaged.
    """
    member = archive.getinfo(name)
    header = member.header_offset
    name_length, extra_length = (
        int.from_bytes(file.buffer[header + i : header + i + 2], "little") for i in (26, 28)
    )
    start = header + 30 + name_length + extra_length
    end = start + member.file_size
    following = DESCRIPTOR if member.flag_bits & 8 else NEXT
    if member.compress_type != zipfile.ZIP_STORED or file.buffer[end : end + 4] not in following:
        raise _damaged(file, member)
    return start


def _damaged(file, member):
    name = member.filename
    return damaged(file.path, f"its member {name!r} should be one uncompressed piece of the file")
