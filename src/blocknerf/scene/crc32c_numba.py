"""CRC-32C (Castagnoli, RFC 3720 appendix B.4), with which TFRecords are checked: eight bytes at a time."""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled

_REVERSED_POLYNOMIAL = 0x82F63B78


def _tables() -> np.ndarray:
    """[8, 256] uint32: row k is what a byte adds that stands k bytes before the end."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_REVERSED_POLYNOMIAL if crc & 1 else 0)
        tables[0, byte] = crc
    for row in range(1, 8):
        tables[row] = tables[0, tables[row - 1] & 0xFF] ^ (tables[row - 1] >> 8)
    return tables


_TABLES = _tables()


def crc32c(content: bytes | memoryview) -> int:
    return int(_crc32c(np.frombuffer(content, np.uint8), _TABLES))


def masked_crc32c(content: bytes | memoryview) -> int:
    """As stored in TFRecords: rotated by 15 bits, plus a constant, so that checksums of checksums differ."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@compiled
def _crc32c(content, tables):
    crc = np.uint32(0xFFFFFFFF)
    eights = len(content) // 8 * 8
    for at in range(0, eights, 8):
        mixed = np.uint32(0)
        for byte in range(8):
            value = np.uint32(content[at + byte])
            if byte < 4:
                value ^= crc >> np.uint32(8 * byte) & np.uint32(0xFF)
            mixed ^= tables[7 - byte, value]
        crc = mixed
    for at in range(eights, len(content)):
        crc = tables[0, (crc ^ content[at]) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)
