"""Reader of zip archives: checks their size, and maps members that are not compressed."""

import zipfile
import zlib

from ..parsing import FREE
from .base import MAX_TENSORS, CheckpointError, damaged

__all__ = ["check_crc", "open_zip", "read_member", "stored_at", "unpacked"]

# records after the list of members; the last two, with 64-bit numbers, may be missing
END, LOCATOR, END_64 = b"PK\5\6", b"PK\6\7", b"PK\6\6"
MOST_LIST = 16 << 20  # bytes of the list of members: more than any checkpoint has
# without bzip2 and LZMA, which may unpack more at a time than was requested
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# records after the bytes of a member: sizes and checksum if its flags say so, or the next member
LOCAL = b"PK\3\4"
LEAST_LOCAL = 30  # bytes of the local header of a member, besides its name
DESCRIPTOR, NEXT = (b"PK\7\x08",), (LOCAL, b"PK\1\2")
ENCRYPTED, UTF_8 = 0x1, 0x800  # flags of a member: encrypted bytes, name in UTF-8
PIECE = 1 << 20  # bytes that are unpacked at a time


def open_zip(file):
    """Opens the archive in a `MappedFile`, after checking the sizes of all members.

    Raises:
        CheckpointError: it is damaged, or would take far more memory than its size explains.
    """
    _check_list(file)
    archive = zipfile.ZipFile(file.path)
    room, names = FREE + 4 * file.size, set()
    for member in archive.infolist():
        room -= member.file_size
        stored = member.compress_type == zipfile.ZIP_STORED
        problem = None
        if member.filename in names:
            problem = "there twice"
        elif member.compress_type not in METHODS:
            problem = "compressed by a method other than deflate"
        elif member.flag_bits & ENCRYPTED:
            problem = "encrypted"
        elif room < 0 or member.compress_size > file.size or (stored and _differs(member)):
            problem = "larger than can be"
        if problem:
            archive.close()
            raise damaged(file.path, f"its member {member.filename!r:.200} is {problem}")
        names.add(member.filename)
    if overlap := _overlapping(archive):
        archive.close()
        raise damaged(file.path, f"its member {overlap!r:.200} overlaps with another")
    return archive


def _overlapping(archive):
    """Returns the name of a member whose bytes are also those of another, or None.

    Bytes that many members share could take hours to unpack.
    """
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if member.header_offset < end:
            return member.filename
        end = member.header_offset + LEAST_LOCAL + member.compress_size
    return None


def _check_list(file):
    """Checks the position and the length of the list of members.

    Raises:
        CheckpointError: it is longer than that of any checkpoint, or not where it should be.
    """
    end = file.size - 22
    tail = file.buffer[-22:]
    if len(tail) < 22 or tail[:4] != END:  # after a comment there could be another list
        raise damaged(file.path, "it does not end as a zip archive without a comment does")
    size, start = (int.from_bytes(tail[i : i + 4], "little") for i in (12, 16))
    if end >= 76 and file.buffer[end - 20 : end - 16] == LOCATOR:
        end -= 76
        if file.buffer[end : end + 4] != END_64:
            raise damaged(file.path, "the end of its list of members is not where it should be")
        numbers = file.buffer[end + 40 : end + 56]
        size, start = (int.from_bytes(numbers[i : i + 8], "little") for i in (0, 8))
    if size > min(end, MOST_LIST) or start != end - size:
        raise damaged(file.path, f"its list of members should take {size} bytes from byte {start}")
    count = file.buffer[end - size : end].count(b"PK\1\2")
    if count > MAX_TENSORS:
        raise damaged(file.path, f"it has {count} members")


def _differs(member):
    return member.file_size != member.compress_size


def _member(file, archive, name):
    """Returns the `ZipInfo` of a member.

    Raises:
        CheckpointError: there is none.
    """
    try:
        return archive.getinfo(name)
    except KeyError:
        raise CheckpointError(
            f"{file.path}: has no member {name!r:.200}; expected one, at the top of the archive. "
            "Pack the files themselves, not their directory, or save again."
        ) from None


def read_member(file, archive, name):
    """Reads the bytes of a member; `open_zip` limits their number.

    A checksum of zero means that it was not computed
    (`torch.serialization.set_crc32_options(False)`).
    """
    member = _member(file, archive, name)
    if member.file_size > FREE // 4 + 2 * file.size:
        raise damaged(file.path, f"its member {name!r:.200} would take {member.file_size} bytes")
    if member.compress_type == zipfile.ZIP_STORED and not member.CRC:
        start = stored_at(file, archive, name)
        return file.buffer[start : start + member.file_size]
    return archive.read(member)


def stored_at(file, archive, name):
    """Returns the offset in `file` of the bytes of an uncompressed member.

    If the next record begins after these bytes, the local header is undamaged.

    Raises:
        CheckpointError: the member is compressed or damaged.
    """
    member = _member(file, archive, name)
    if member.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(
            f"{file.path}: its member {name!r:.200} is compressed; expected one that is stored, "
            "which can be mapped. Pack the same files again without compression (zip -0), or save "
            "again."
        )
    start = _data_at(file, member)
    end = start + member.file_size
    following = DESCRIPTOR if member.flag_bits & 8 else NEXT
    if file.buffer[end : end + 4] not in following:
        problem = f"its member {name!r:.200} should be one uncompressed piece of the file"
        raise damaged(file.path, problem)
    return start


def _data_at(file, member):
    """Returns the offset in `file` of the bytes of a member, after checking its local header.

    The extra field of the local header has its own length, which is not in the list of members.

    Raises:
        CheckpointError: the local header has another name.
    """
    header = member.header_offset
    name_length, extra_length = (
        int.from_bytes(file.buffer[header + i : header + i + 2], "little") for i in (26, 28)
    )
    end = header + 30 + name_length
    encoding = "utf-8" if member.flag_bits & UTF_8 else "cp437"
    same = file.buffer[header + 30 : end] == member.orig_filename.encode(encoding)
    if file.buffer[header : header + 4] != LOCAL or not same:
        problem = f"its member {member.filename!r:.200} should begin at byte {header}, and does not"
        raise damaged(file.path, problem)
    return end + extra_length


def unpacked(file, member):
    """Yields the bytes of a deflated member, piece by piece.

    It does not open the archive again, so that reading many members takes time in proportion to
    their size.

    Raises:
        CheckpointError: the size or the checksum is wrong.
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
    """Verifies the checksum of an uncompressed member.

    Args:
        file: the `MappedFile`.
        member: its `ZipInfo`.
        start: offset of its bytes.

    Raises:
        CheckpointError: the checksum is wrong.
    """
    crc = 0
    with memoryview(file.buffer) as whole:
        for begin in range(start, start + member.file_size, PIECE):
            end = min(begin + PIECE, start + member.file_size)
            crc = zlib.crc32(whole[begin:end], crc)
    if crc != member.CRC:
        raise damaged(file.path, f"the checksum of its member {member.filename!r:.200} is wrong")
