"""What the symbols around one let us expect of it: its magnitude and its value, by two linear predictors that learn.

A tensor is seen as outputs x inputs x places of a kernel. Both predictors see the symbols coded just before in the
same kernel; a magnitude is also expected from its neighbours in the input and the output before, and from the running
means of its output, its input and the tensor. Whole numbers, in 1/4,096 of a symbol's step.
(Normalised least mean squares: Nagumo and Noda, 1967.)
"""

from typing import Any, NamedTuple

from resfit.coding.compiled import compiled, constant_row, row

UNIT_BITS = 12
LARGEST = 4095  # a magnitude beyond counts as this one
NEAR = 8  # symbols of the same kernel that are seen
FEATURES = NEAR + 5
PLACES = 64  # of a kernel that have their own weights for values; the places after share the last
MOST_WEIGHT = 1 << 18  # in 1/65,536
SHARES = 2048
LONGEST_OUTPUT_MEAN, LONGEST_INPUT_MEAN = 255, 63
EXPECTED, SIGNED, OUTPUT, WHOLE, KIND = range(5)  # of `now`


class Expectation(NamedTuple):
    """What the predictors have learnt and the present symbol's neighbourhood, each a row of int64."""

    magnitude_weights: Any  # of each feature
    value_weights: Any  # of each symbol seen, for each place of a kernel
    magnitudes: Any  # the features of the present symbol
    values: Any  # the symbols it sees
    now: Any  # expected magnitude and value, running means of the output and the tensor, whether it has one dimension
    wholes: Any  # the last tensor's mean, of those with several dimensions and of those with one
    shares: Any  # of a new symbol in a running mean of so many


def new_expectation() -> Expectation:
    """Predictors that have learnt nothing."""
    return Expectation(
        magnitude_weights=constant_row(65536 // FEATURES, FEATURES),
        value_weights=constant_row(0, PLACES * NEAR),
        magnitudes=constant_row(0, FEATURES),
        values=constant_row(0, NEAR),
        now=constant_row(0, 5),
        wholes=constant_row(1 << UNIT_BITS, 2),
        shares=row([65536 // (count + 2) for count in range(SHARES)]),
    )


def begin(expectation: Expectation, *, kind: int) -> None:
    """Before a tensor: its mean begins as the last one's of its kind, 1 for those with fewer than two dimensions."""
    expectation.now[KIND] = kind
    expectation.now[WHOLE] = expectation.wholes[kind]


def finish(expectation: Expectation) -> None:
    """After a tensor: its mean is kept for the next of its kind."""
    expectation.wholes[expectation.now[KIND]] = expectation.now[WHOLE]


@compiled
def expect(expectation, kept, columns, index, kernel, inner):
    """Fill `magnitudes` and `values` with what the symbol at `index` sees, and `now` with what is expected of it.

    kept: the tensor's symbols so far, each within LARGEST; columns: the running mean magnitude of each input.
    """
    magnitudes, values, now = expectation.magnitudes, expectation.values, expectation.now
    place = index % kernel
    column = index // kernel % inner
    if index % (kernel * inner) == 0:
        now[OUTPUT] = now[WHOLE]
    output = now[OUTPUT]
    for near in range(NEAR):
        seen = kept[index - 1 - near] << UNIT_BITS if near < place else 0
        values[near] = seen
        magnitudes[near] = abs(seen) if near < place else output
    magnitudes[NEAR] = output
    magnitudes[NEAR + 1] = columns[column]
    magnitudes[NEAR + 2] = abs(kept[index - kernel]) << UNIT_BITS if column > 0 else output
    magnitudes[NEAR + 3] = abs(kept[index - kernel * inner]) << UNIT_BITS if index >= kernel * inner else output
    magnitudes[NEAR + 4] = now[WHOLE]
    expected = _product(expectation.magnitude_weights, 0, magnitudes, FEATURES)
    now[EXPECTED] = min(max(expected, 16), 1 << 24)
    signed = _product(expectation.value_weights, min(place, PLACES - 1) * NEAR, values, min(place, NEAR))
    now[SIGNED] = min(max(signed, -(1 << 24)), 1 << 24)


@compiled
def learn(expectation, kept, columns, index, kernel, inner):
    """Correct the predictors and means by the symbol that turned out to be at `index`."""
    now, shares = expectation.now, expectation.shares
    place = index % kernel
    column = index // kernel % inner
    met = index // (kernel * inner) * kernel + place  # symbols of this input so far
    value = kept[index] << UNIT_BITS
    magnitude = abs(value)
    features = expectation.magnitudes
    _correct(expectation.magnitude_weights, 0, features, FEATURES, magnitude - now[EXPECTED], 256, 12)
    start = min(place, PLACES - 1) * NEAR
    least = now[EXPECTED] * now[EXPECTED] >> 14
    _correct(
        expectation.value_weights, start, expectation.values, min(place, NEAR), value - now[SIGNED], least + 16, 11
    )
    so_far = min(index % (kernel * inner), LONGEST_OUTPUT_MEAN)
    now[OUTPUT] += (magnitude - now[OUTPUT]) * shares[so_far] >> 16
    now[WHOLE] += (magnitude - now[WHOLE]) * shares[min(index, SHARES - 1)] >> 16
    columns[column] += (magnitude - columns[column]) * shares[min(met, LONGEST_INPUT_MEAN)] >> 16


@compiled
def _product(weights, start, features, count):
    total = 0
    for place in range(count):
        total += weights[start + place] * features[place]
    return total >> 16


@compiled
def _correct(weights, start, features, count, error, least_power, shift):
    power = least_power
    for place in range(count):
        power += (features[place] >> 6) * (features[place] >> 6)
    gain = (error << 16) // power
    for place in range(count):
        weight = weights[start + place] + (gain * (features[place] >> 6) >> shift)
        weights[start + place] = min(max(weight, -MOST_WEIGHT), MOST_WEIGHT)
