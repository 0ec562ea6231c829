"""Members of zip archives that are stored as they are, and can therefore be mapped into memory."""

import zipfile

from .base import CheckpointError

MAX_RATIO = 1032  # of deflate: data that claims to grow more than so many times is damaged


def stored_at(file, archive, member):
    """The offset in `file` (a `MappedFile`) of the bytes of an uncompressed member.

    A local header has a length of its own for an extra field, which the archive's directory does
    not repeat; that the members follow each other without gaps shows that it is undamaged.
    """
    header = member.header_offset
    name_length, extra_length = (
        int.from_bytes(file.buffer[header + i : header + i + 2], "little") for i in (26, 28)
    )
    start = header + 30 + name_length + extra_length
    end = start + member.file_size
    following = [m.header_offset for m in archive.infolist() if m.header_offset > header]
    gap = min(following, default=archive.start_dir) - end
    # bit 3 of the flags announces a record of sizes and checksum after the bytes
    if member.compress_type != zipfile.ZIP_STORED or gap not in (
        (12, 16, 20, 24) if member.flag_bits & 8 else (0,)
    ):
        raise CheckpointError(
            f"{file.path}: damaged, or not written as its format asks: {member.filename!r} should "
            "be stored in one uncompressed piece; get or copy the file again"
        )
    return start
