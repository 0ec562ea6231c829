"""Checksums of file formats."""

import google_crc32c

__all__ = ["masked_crc32c"]


def masked_crc32c(data):
    """Returns the CRC-32C of bytes, masked as in LevelDB: the data may contain checksums."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
