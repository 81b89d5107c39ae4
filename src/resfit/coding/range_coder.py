"""A binary range coder of 32 bits: one bit at a time, each with a probability of 16 bits; whole numbers only.

The coder holds an interval of 32-bit numbers, cuts it in proportion to the probability and keeps the part of the bit.
Leading bytes that both ends share are written. At the end the first byte of the low end is written, and a reader
takes 0xff for every byte past the end, so trailing 0xff bytes are dropped. No bits are no bytes.
(After the carryless coder of M. Mahoney's lpaq.)
"""

from resfit.coding.compiled import compiled

TOP = 0xFFFFFFFF
LOW, HIGH, CODE, POSITION, DECODING = range(5)  # of the row that holds a coder
SIZE = 5


@compiled
def code_bit(coder, data, probability, bit):
    """Write a bit, or read one if the coder decodes, and return it.

    coder: row of SIZE; data: row of bytes; probability: of a one, in 1/65,536, from 1 to 65,535.
    """
    low = coder[LOW]
    high = coder[HIGH]
    middle = low + ((high - low) * probability >> 16)
    if coder[DECODING] != 0:
        bit = 1 if coder[CODE] <= middle else 0
    if bit != 0:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) >> 24 == 0:
        shift_byte(coder, data, high >> 24)
        low = low << 8 & TOP
        high = (high << 8 & TOP) | 255
    coder[LOW] = low
    coder[HIGH] = high
    return bit


@compiled
def shift_byte(coder, data, byte):
    """Write a byte, or read the next one (0xff past the end) after four that are already in the code."""
    position = coder[POSITION]
    if coder[DECODING] == 0:
        data[position] = byte
    else:
        ahead = data[position + 4] if position + 4 < len(data) else 255
        coder[CODE] = (coder[CODE] << 8 & TOP) | ahead
    coder[POSITION] = position + 1
