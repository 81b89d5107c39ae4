"""The model of the range codec: which bits a symbol is, and in which contexts each of them is coded.

A symbol is its magnitude, then its sign. A magnitude is how many binary digits it has, one bit for each "more?", then
its digits after the first.
"""

from typing import Any, NamedTuple

from resfit.coding.compiled import compiled, row
from resfit.coding.expectation import (
    EXPECTED,
    KIND,
    LARGEST,
    NEAR,
    OUTPUT,
    SIGNED,
    Expectation,
    expect,
    learn,
    new_expectation,
)
from resfit.coding.logistic_mixing import INPUTS, Mixing, code_alone, code_mixed, new_mixing

NODES = 32  # of a magnitude: 12 for the number of digits, 10 for the digits of 2 to 15, 8 for those of more
LENGTHS = 12
SHORT_DIGITS, LONG_DIGITS = 12, 24
CONTEXTS = 1024  # of an input
SIGNS = INPUTS * CONTEXTS * NODES  # where the chances of signs begin, then those of the centers
CENTERS = SIGNS + INPUTS * CONTEXTS
CENTER_DIGITS = 40
CHANCES = CENTERS + 2 * CENTER_DIGITS + 1
BY_LEVEL, BY_PLACE = 16, 16  # sets of mixers
SIGN_MIXERS = (BY_LEVEL + BY_PLACE) * NODES  # one, and one a place
MIXERS = SIGN_MIXERS + 1 + BY_PLACE
MOST_DIGITS = 33
MOST_LEVEL = 63
LEVELS = 2048  # that have a table


class Model(NamedTuple):
    """All that is learnt from tensor to tensor."""

    mixing: Mixing
    expectation: Expectation
    levels: Any  # see `level_table`


def new_model(coder: list[int]) -> Model:
    """A model that has learnt nothing, around a coder."""
    mixing = new_mixing(coder, chances=CHANCES, mixers=MIXERS, slots=2 * INPUTS)
    return Model(mixing, new_expectation(), row(level_table()))


@compiled
def code_center(model, data, center):
    """Write or read the symbol that is taken as zero in a tensor."""
    mixing = model.mixing
    magnitude = abs(center)
    digits = 0
    more = 1
    while more != 0 and digits < MOST_DIGITS:
        more = code_alone(mixing, data, CENTERS + digits, 1 if magnitude >> digits != 0 else 0)
        digits += more
    if digits == 0:
        return 0
    prefix = 1
    for place in range(digits - 2, -1, -1):
        prefix = prefix << 1 | code_alone(mixing, data, CENTERS + CENTER_DIGITS + place, magnitude >> place & 1)
    negative = code_alone(mixing, data, CENTERS + 2 * CENTER_DIGITS, 1 if center < 0 else 0)
    return -prefix if negative != 0 else prefix


@compiled
def code_symbols(model, data, symbols, kept, columns, geometry, center, start, stop):
    """Write the symbols from `start` to `stop` of a tensor, or read them into `symbols`; returns where it came to.

    That is before `stop` if the next symbol that was read is beyond 32 bits.
    kept, columns: what `expect` needs; geometry: inputs, kernel places and kernel width of the tensor.
    """
    inner, kernel, width = geometry
    for index in range(start, stop):
        expect(model.expectation, kept, columns, index, kernel, inner)
        level = set_contexts(model, kept, index, kernel, width)
        place = min(index % kernel, BY_PLACE - 1)
        value = symbols[index] - center
        magnitude = code_magnitude(model.mixing, data, level, place, abs(value))
        negative = 0
        if magnitude != 0:
            negative = code_sign(model, data, place, magnitude, 1 if value < 0 else 0)
        value = -magnitude if negative != 0 else magnitude
        if value + center < -(1 << 31) or value + center >= 1 << 31:
            return index
        symbols[index] = value + center
        kept[index] = min(max(value, -LARGEST), LARGEST)
        learn(model.expectation, kept, columns, index, kernel, inner)
    return stop


@compiled
def code_magnitude(mixing, data, level, place, magnitude):
    """Write or read a magnitude below 2 to the 33 in the contexts that are set."""
    one, other = level * NODES, (BY_LEVEL + place) * NODES
    digits = 0
    more = 1
    while more != 0 and digits < MOST_DIGITS:
        node = min(digits, LENGTHS - 1)
        more = code_mixed(mixing, data, 0, node, one + node, other + node, 0, 1 if magnitude >> digits != 0 else 0)
        digits += more
    prefix = min(digits, 1)
    for place in range(digits - 2, -1, -1):
        if digits <= 4:
            node = SHORT_DIGITS + prefix + (1 << (digits - 2)) - 2
        else:
            node = LONG_DIGITS + min(place, NODES - LONG_DIGITS - 1)
        bit = code_mixed(mixing, data, 0, node, one + node, other + node, 0, magnitude >> place & 1)
        prefix = prefix << 1 | bit
    return prefix


@compiled
def set_contexts(model, kept, index, kernel, width):
    """Set the slots of a magnitude's contexts; returns the expected magnitude's coarse level, below BY_LEVEL."""
    expectation, slots, levels = model.expectation, model.mixing.slots, model.levels
    now, seen = expectation.now, expectation.magnitudes
    place = min(index % kernel, 15)
    expected = level_of(levels, now[EXPECTED] >> 5)
    left = min(abs(kept[index - 1]), 3) if index > 0 else 0
    before = min(abs(kept[index - 2]), 3) if index > 1 else 0
    near = (seen[0] + seen[1] + seen[2] + seen[3]) >> 8
    around = min(seen[0] >> 12, 2) * 3 + min(seen[NEAR + 2] >> 12, 2)
    above = min(abs(kept[index - width]), 2) if index % kernel >= width else 0
    around = (around * 3 + min(seen[NEAR + 3] >> 12, 2)) * 3 + above
    set_slot(slots, 0, level_of(levels, abs(now[SIGNED]) >> 7) // 2 * 32 + expected // 2)
    set_slot(slots, 1, place * 64 + expected)
    set_slot(slots, 2, level_of(levels, now[OUTPUT] >> 6) // 2 * 32 + level_of(levels, seen[NEAR + 1] >> 6) // 2)
    set_slot(slots, 3, (left * 4 + before) * 16 + expected // 4)
    set_slot(slots, 4, level_of(levels, near) // 2 * 32 + level_of(levels, now[OUTPUT] >> 6) // 2)
    set_slot(slots, 5, around * 2 + now[KIND])
    return expected // 4


@compiled
def set_slot(slots, place, context):
    """Let a magnitude's input be the chances of a context below CONTEXTS."""
    slots[place] = (place * CONTEXTS + context) * NODES


@compiled
def code_sign(model, data, place, magnitude, negative):
    """Write or read whether a symbol of the magnitude is negative."""
    slots, now, values = model.mixing.slots, model.expectation.now, model.expectation.values
    levels = model.levels
    expected = level_of(levels, now[EXPECTED] >> 5)
    signed = level_of(levels, abs(now[SIGNED]) >> 6)
    if now[SIGNED] < 0:
        signed = -signed
    signed = min(max(signed, -31), 31) + 32
    held = min(magnitude, LARGEST)
    logarithm = (now[SIGNED] * held << 6) // (now[EXPECTED] + 2048)
    signs = 0
    for near in range(3):
        signs = signs * 3 + (2 if values[near] > 0 else 1 if values[near] < 0 else 0)
    first = SIGNS
    slots[INPUTS] = first + signed
    slots[INPUTS + 1] = first + CONTEXTS + signed // 2 * 32 + expected // 2
    slots[INPUTS + 2] = first + 2 * CONTEXTS + place * 64 + signed
    slots[INPUTS + 3] = first + 3 * CONTEXTS + min(max(logarithm >> 4, -31), 31) + 32
    slots[INPUTS + 4] = first + 4 * CONTEXTS + signed * 8 + min(held, 7)
    slots[INPUTS + 5] = first + 5 * CONTEXTS + place * 27 + signs
    extra = min(max(-logarithm, -2000), 2000)
    return code_mixed(model.mixing, data, INPUTS, 0, SIGN_MIXERS, SIGN_MIXERS + 1 + place, extra, negative)


@compiled
def level_of(levels, number):
    """A number from 0 below 2 to the 38 on a scale of four steps a doubling, at most MOST_LEVEL."""
    shift = 0
    while number >> shift >= LEVELS:
        shift += 9
    return min(4 * shift + levels[number >> shift], MOST_LEVEL)


def level_table() -> list[int]:
    """The levels below LEVELS: numbers below 8 are their own, and every doubling has four."""
    shifts = [max(0, number.bit_length() - 3) for number in range(LEVELS)]
    return [4 * shift + (number >> shift) for number, shift in enumerate(shifts)]
