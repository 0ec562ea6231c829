"""Zip archives whose members are stored as they are, and can therefore be mapped into memory."""

import zipfile
import zlib

from ..parsing import FREE
from .base import MAX_TENSORS, CheckpointError, damaged

# what is behind the list of members; the second of them, with numbers of 64 bits, may be missing
END, LOCATOR, END_64 = b"PK\5\6", b"PK\6\7", b"PK\6\6"
MOST_LIST = 16 << 20  # bytes: more than any checkpoint has
# bzip2 and LZMA unpack more than is asked for at once, whatever size they tell
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# what follows the bytes of a member: sizes and checksum if its flags say so, or the next record
LOCAL = b"PK\3\4"
DESCRIPTOR, NEXT = (b"PK\7\x08",), (LOCAL, b"PK\1\2")
ENCRYPTED, UTF_8 = 0x1, 0x800  # flags of a member: its bytes, its name
PIECE = 1 << 20  # bytes that are unpacked at a time


def open_zip(file):
    """The archive in a `MappedFile`, once all of it is known to be of a size that the file explains."""
    _check_list(file)
    archive = zipfile.ZipFile(file.path)
    room, names = FREE + 4 * file.size, set()
    for member in archive.infolist():
        room -= member.file_size
        stored = member.compress_type == zipfile.ZIP_STORED
        wrong = None
        if member.filename in names:
            wrong = "there twice"
        elif member.compress_type not in METHODS:
            wrong = "compressed by a method other than deflate"
        elif member.flag_bits & ENCRYPTED:
            wrong = "encrypted"
        elif room < 0 or member.compress_size > file.size or (stored and _differs(member)):
            wrong = "larger than can be"
        if wrong:
            archive.close()
            raise damaged(file.path, f"its member {member.filename!r:.200} is {wrong}")
        names.add(member.filename)
    return archive


def _check_list(file):
    """Raises if the list of members is longer than that of any checkpoint."""
    place = file.size - 22
    tail = file.buffer[-22:]
    if len(tail) < 22 or tail[:4] != END:  # behind which there could be a comment, or another one
        raise damaged(file.path, "it does not end as a zip archive without a comment does")
    size, start = (int.from_bytes(tail[i : i + 4], "little") for i in (12, 16))
    if place >= 76 and file.buffer[place - 20 : place - 16] == LOCATOR:
        place -= 76
        if file.buffer[place : place + 4] != END_64:
            raise damaged(file.path, "the end of its list of members is not where it should be")
        numbers = file.buffer[place + 40 : place + 56]
        size, start = (int.from_bytes(numbers[i : i + 8], "little") for i in (0, 8))
    if size > min(place, MOST_LIST) or start != place - size:
        raise damaged(file.path, f"its list of members should take {size} bytes from byte {start}")
    count = file.buffer[place - size : place].count(b"PK\1\2")
    if count > MAX_TENSORS:
        raise damaged(file.path, f"it has {count} members")


def _differs(member):
    return member.file_size != member.compress_size


def _member(file, archive, name):
    """What the archive's directory says of a member."""
    try:
        return archive.getinfo(name)
    except KeyError:
        raise CheckpointError(
            f"{file.path}: has no member {name!r:.200}; expected one, at the top of the archive. Pack "
            "the files themselves, not their directory, or save again."
        ) from None


def read_member(file, archive, name):
    """The bytes of a member; see `open_zip` for how many there may be.

    A checksum of zero was not computed: `torch.serialization.set_crc32_options(False)`.
    """
    member = _member(file, archive, name)
    if member.file_size > FREE // 4 + 2 * file.size:
        raise damaged(file.path, f"its member {name!r:.200} would take {member.file_size} bytes")
    if member.compress_type == zipfile.ZIP_STORED and not member.CRC:
        start = stored_at(file, archive, name)
        return file.buffer[start : start + member.file_size]
    return archive.read(member)


def stored_at(file, archive, name):
    """The offset in `file` of the bytes of an uncompressed member.

    That the next record begins after the bytes shows that the local header is undamaged.
    """
    member = _member(file, archive, name)
    if member.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(
            f"{file.path}: its member {name!r:.200} is compressed; expected one that is stored, which "
            "can be mapped. Pack the same files again without compression (zip -0), or save again."
        )
    start = _data_at(file, member)
    end = start + member.file_size
    following = DESCRIPTOR if member.flag_bits & 8 else NEXT
    if file.buffer[end : end + 4] not in following:
        what = f"its member {name!r:.200} should be one uncompressed piece of the file"
        raise damaged(file.path, what)
    return start


def _data_at(file, member):
    """The offset in `file` of the bytes of a member, once its local header has the same name.

    That has a length of its own for an extra field, which the archive's directory does not repeat.
    """
    header = member.header_offset
    name_length, extra_length = (
        int.from_bytes(file.buffer[header + i : header + i + 2], "little") for i in (26, 28)
    )
    end = header + 30 + name_length
    encoding = "utf-8" if member.flag_bits & UTF_8 else "cp437"
    same = file.buffer[header + 30 : end] == member.orig_filename.encode(encoding)
    if file.buffer[header : header + 4] != LOCAL or not same:
        what = f"its member {member.filename!r:.200} should begin at byte {header}"
        raise damaged(file.path, f"{what}, and does not")
    return end + extra_length


def unpacked(file, member):
    """The bytes of a deflated member, piece by piece; raises if they are not what they were.

    It opens nothing: each of many members takes the time that it explains.
    """
    start, unpacker = _data_at(file, member), zlib.decompressobj(-zlib.MAX_WBITS)
    end, crc, size = start + member.compress_size, 0, 0

    def pieces():
        for begin in range(start, end, PIECE):
            packed = file.buffer[begin : min(begin + PIECE, end)]
            while packed and not unpacker.eof:
                yield unpacker.decompress(packed, PIECE)
                packed = unpacker.unconsumed_tail
        yield unpacker.flush()

    for piece in pieces():
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        if size > member.file_size:
            break
        yield piece
    if not unpacker.eof or size != member.file_size or crc != member.CRC:
        raise damaged(
            file.path, f"its member {member.filename!r:.200} has another size or checksum"
        )


def check_crc(file, member, start):
    """Raises if the bytes of a stored member, from `start` on, have another checksum."""
    crc = 0
    with memoryview(file.buffer) as whole:
        for begin in range(start, start + member.file_size, PIECE):
            end = min(begin + PIECE, start + member.file_size)
            crc = zlib.crc32(whole[begin:end], crc)
    if crc != member.CRC:
        raise damaged(file.path, f"the checksum of its member {member.filename!r:.200} is wrong")
