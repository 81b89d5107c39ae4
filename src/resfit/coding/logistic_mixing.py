"""The probability of one bit from several contexts, mixed in the logistic domain; whole numbers only.

Each context has a chance: a probability in 22 bits and a count in the 10 bits below, which sets how fast it adapts.
Two mixers weigh the stretched chances, their means are averaged, and what the bit turned out to be corrects the
weights of both and the chances. (After Mahoney, Adaptive weighing of context models for lossless data compression,
2005.)
"""

import functools
from typing import Any, NamedTuple

from resfit.coding.compiled import compiled, constant_row, row
from resfit.coding.range_coder import code_bit

INPUTS = 6  # contexts of a bit
WIDTH = INPUTS + 1  # weights of a mixer: one a context, and one of the extra input
SPAN = 2815  # the greatest stretched probability, in 1/256 nat: 11 nats
CHANCE_STEPS = 4096
MOST_COUNTS = 1023
FIRST_CHANCE = 1 << 31  # one half, never met
FIRST_WEIGHT = 12000  # in 1/65,536
MOST_WEIGHT = 1 << 20
WEIGHT_RATE = 10  # in 1/262,144


class Mixing(NamedTuple):
    """What a coder has learnt and its tables, each a row of int64."""

    coder: Any
    chances: Any
    weights: Any
    slots: Any  # of the bit's contexts, set by the model before a bit is coded
    inputs: Any
    stretch: Any
    squash: Any
    paces: Any


def new_mixing(coder: list[int], *, chances: int, mixers: int, slots: int) -> Mixing:
    """A mixing that has learnt nothing, with so many chances, mixers and slots."""
    return Mixing(
        coder=row(coder),
        chances=constant_row(FIRST_CHANCE, chances),
        weights=constant_row(FIRST_WEIGHT, mixers * WIDTH),
        slots=constant_row(0, slots),
        inputs=constant_row(0, WIDTH),
        stretch=row(stretch_table()),
        squash=row(squash_table()),
        paces=row([655360 // (10 * count + 18) for count in range(MOST_COUNTS + 1)]),
    )


@functools.cache
def squash_table() -> list[int]:
    """Probabilities of a one, in 1/65,536 from 1 to 65,535, for every logarithm of odds from -SPAN to SPAN."""
    one = 1 << 30
    odds = [one]  # e to the power -k / 256, in 1 / one
    for _ in range(SPAN):
        odds.append(odds[-1] * 1069555637 >> 30)
    least = [max(1, 65536 * odd // (one + odd)) for odd in odds]
    return least[:0:-1] + [65536 - chance for chance in least]


@functools.cache
def stretch_table() -> list[int]:
    """For each probability of 12 bits, the least logarithm of odds that its middle does not exceed."""
    squash = squash_table()
    table, logarithm = [], -SPAN
    for step in range(CHANCE_STEPS):
        while logarithm < SPAN and squash[logarithm + SPAN] < 16 * step + 8:
            logarithm += 1
        table.append(logarithm)
    return table


@compiled
def code_mixed(mixing, data, first, node, one, other, extra, bit):
    """Write a bit, or read one, with the probability mixed from the contexts in the slots from `first`; return it.

    node: added to each slot. one, other: the mixers. extra: a further input, a logarithm of odds.
    """
    inputs, weights, squash = mixing.inputs, mixing.weights, mixing.squash
    one *= WIDTH
    other *= WIDTH
    sum_one = extra * weights[one + INPUTS]
    sum_other = extra * weights[other + INPUTS]
    for place in range(INPUTS):
        value = mixing.stretch[mixing.chances[mixing.slots[first + place] + node] >> 20]
        inputs[place] = value
        sum_one += value * weights[one + place]
        sum_other += value * weights[other + place]
    inputs[INPUTS] = extra
    mean_one = min(max(sum_one >> 16, -SPAN), SPAN)
    mean_other = min(max(sum_other >> 16, -SPAN), SPAN)
    bit = code_bit(mixing.coder, data, squash[((mean_one + mean_other) >> 1) + SPAN], bit)
    _correct_mixer(inputs, weights, one, (bit << 16) - squash[mean_one + SPAN])
    _correct_mixer(inputs, weights, other, (bit << 16) - squash[mean_other + SPAN])
    for place in range(INPUTS):
        _correct_chance(mixing.chances, mixing.paces, mixing.slots[first + place] + node, bit)
    return bit


@compiled
def code_alone(mixing, data, slot, bit):
    """Write or read a bit with the chance of one slot."""
    probability = mixing.squash[mixing.stretch[mixing.chances[slot] >> 20] + SPAN]
    bit = code_bit(mixing.coder, data, probability, bit)
    _correct_chance(mixing.chances, mixing.paces, slot, bit)
    return bit


@compiled
def _correct_mixer(inputs, weights, start, error):
    for place in range(WIDTH):
        weight = weights[start + place] + ((inputs[place] * error * WEIGHT_RATE + 131072) >> 18)
        weights[start + place] = min(max(weight, -MOST_WEIGHT), MOST_WEIGHT)


@compiled
def _correct_chance(chances, paces, slot, bit):
    chance = chances[slot]
    count = chance & 1023
    probability = chance >> 10
    probability += ((bit << 22) - probability) * paces[count] >> 16
    chances[slot] = probability << 10 | min(count + 1, MOST_COUNTS)
