"""A second decoder of the range codec, written from docs/coding.md alone, in plain Python: see slow_reader.py."""

import math

Shape = tuple[int, ...]
INPUTS, SPAN, NODES, CONTEXTS = 6, 2815, 32, 1024
NEAR, PLACES, LARGEST, UNIT = 8, 64, 4095, 4096
FEATURES = NEAR + 5
MOST_DIGITS = 33


def limited(number: int, least: int, greatest: int) -> int:
    return max(least, min(number, greatest))


def level_of(number: int) -> int:
    """Numbers below 8 are their own level, and every doubling has four more."""
    shift = max(0, number.bit_length() - 3)
    return min(4 * shift + (number >> shift), 63)


class Coder:
    """The range decoder and the probabilities that it learns."""

    def __init__(self, data: bytes):
        self.data = data
        self.low, self.high, self.read = 0, 2**32 - 1, 4
        self.code = int.from_bytes((data + bytes([255] * 4))[:4], "big")
        odds, least = 2**30, []
        for _ in range(SPAN + 1):
            least.append(max(1, 65536 * odds // (2**30 + odds)))
            odds = odds * 1069555637 >> 30
        self.squash = {k: 65536 - least[k] for k in range(SPAN + 1)} | {-k: least[k] for k in range(1, SPAN + 1)}
        self.stretch = []
        logarithm = -SPAN
        for step in range(4096):
            while logarithm < SPAN and self.squash[logarithm] < 16 * step + 8:
                logarithm += 1
            self.stretch.append(logarithm)
        self.chances: dict[tuple, list[int]] = {}  # a name -> [probability in 22 bits, count]
        self.mixers: dict[tuple, list[int]] = {}

    def bit(self, probability: int) -> int:
        """The next bit, which is 1 with a probability in 65,536."""
        middle = self.low + ((self.high - self.low) * probability >> 16)
        bit = int(self.code <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while self.low >> 24 == self.high >> 24:
            following = self.data[self.read] if self.read < len(self.data) else 255
            self.code = (self.code % 2**24) * 256 + following
            self.low = (self.low % 2**24) * 256
            self.high = (self.high % 2**24) * 256 + 255
            self.read += 1
        return bit

    def finish(self) -> None:
        """ValueError unless the stream ends here, in the one way there is."""
        whole = self.data + bytes([255] * max(0, self.read - 4 - len(self.data)))
        ended = whole[: self.read - 4]
        if (self.low, self.high) != (0, 2**32 - 1):
            ended += bytes([self.low >> 24])
        if ended.rstrip(b"\xff") != self.data:
            raise ValueError("a stream that does not end where its numbers do")

    def logarithm(self, name: tuple) -> int:
        return self.stretch[self.chances.setdefault(name, [2**21, 0])[0] >> 10]

    def learn(self, name: tuple, bit: int) -> None:
        chance = self.chances[name]
        chance[0] += (bit * 2**22 - chance[0]) * (655360 // (10 * chance[1] + 18)) >> 16
        chance[1] = min(chance[1] + 1, 1023)

    def alone(self, name: tuple) -> int:
        """A bit of one chance."""
        bit = self.bit(self.squash[self.logarithm(name)])
        self.learn(name, bit)
        return bit

    def mixed(self, names: list[tuple], mixers: list[tuple], extra: int) -> int:
        """A bit of six chances and a further input, weighed by two mixers."""
        inputs = [*(self.logarithm(name) for name in names), extra]
        means = []
        for mixer in mixers:
            weights = self.mixers.setdefault(mixer, [12000] * (INPUTS + 1))
            total = sum(weight * value for weight, value in zip(weights, inputs, strict=True))
            means.append(limited(total >> 16, -SPAN, SPAN))
        bit = self.bit(self.squash[sum(means) >> 1])
        for mixer, mean in zip(mixers, means, strict=True):
            error = bit * 65536 - self.squash[mean]
            weights = self.mixers[mixer]
            for place, value in enumerate(inputs):
                weights[place] = limited(weights[place] + (value * error * 10 + 131072 >> 18), -(2**20), 2**20)
        for name in names:
            self.learn(name, bit)
        return bit


class Predictors:
    """What is expected of a symbol's magnitude and value, learnt from tensor to tensor."""

    def __init__(self) -> None:
        self.magnitude_weights = [65536 // FEATURES] * FEATURES
        self.value_weights = [[0] * NEAR for _ in range(PLACES)]
        self.wholes = [UNIT, UNIT]

    def begin(self, shape: Shape) -> None:
        self.size = math.prod(shape)
        self.flat = int(len(shape) < 2)
        self.inputs = self.size if self.flat else shape[1]
        self.kernel = 1 if self.flat else math.prod(shape[2:])
        self.width = shape[-1] if len(shape) > 2 else 1
        self.whole = self.wholes[self.flat]
        self.columns = [self.whole] * self.inputs
        self.kept: list[int] = []

    def expect(self) -> None:
        """What the next symbol sees and what it should be."""
        index, kept = len(self.kept), self.kept
        self.place = index % self.kernel
        self.column = index // self.kernel % self.inputs
        self.row_size = self.kernel * self.inputs
        if index % self.row_size == 0:
            self.output = self.whole
        before = min(self.place, NEAR)
        self.values = [kept[index - 1 - near] * UNIT for near in range(before)] + [0] * (NEAR - before)
        self.magnitudes = [abs(value) for value in self.values[:before]] + [self.output] * (NEAR - before)
        self.magnitudes += [
            self.output,
            self.columns[self.column],
            abs(kept[index - self.kernel]) * UNIT if self.column else self.output,
            abs(kept[index - self.row_size]) * UNIT if index >= self.row_size else self.output,
            self.whole,
        ]
        self.expected = limited(product(self.magnitude_weights, self.magnitudes), 16, 2**24)
        self.expected_value = limited(product(self.own_weights(), self.values[:before]), -(2**24), 2**24)

    def own_weights(self) -> list[int]:
        return self.value_weights[min(self.place, PLACES - 1)]

    def learn(self, kept: int) -> None:
        index, value, before = len(self.kept), kept * UNIT, min(self.place, NEAR)
        self.kept.append(kept)
        correct(self.magnitude_weights, self.magnitudes, abs(value) - self.expected, 256, 12)
        least = (self.expected * self.expected >> 14) + 16
        correct(self.own_weights(), self.values[:before], value - self.expected_value, least, 11)
        met = index // self.row_size * self.kernel + self.place
        self.output = nearer(self.output, abs(value), min(index % self.row_size, 255))
        self.whole = nearer(self.whole, abs(value), min(index, 2047))
        self.columns[self.column] = nearer(self.columns[self.column], abs(value), min(met, 63))
        if len(self.kept) == self.size:
            self.wholes[self.flat] = self.whole


def product(weights: list[int], features: list[int]) -> int:
    return sum(weight * feature for weight, feature in zip(weights, features, strict=False)) >> 16


def correct(weights: list[int], features: list[int], error: int, power: int, shift: int) -> None:
    gain = error * 65536 // (power + sum((feature >> 6) ** 2 for feature in features))
    for place, feature in enumerate(features):
        weights[place] = limited(weights[place] + (gain * (feature >> 6) >> shift), -(2**18), 2**18)


def nearer(mean: int, value: int, count: int) -> int:
    return mean + ((value - mean) * (65536 // (count + 2)) >> 16)


def contexts_of(state: Predictors) -> list[int]:
    """The six contexts of a magnitude."""
    index, kept, seen = len(state.kept), state.kept, state.magnitudes
    expected, output = level_of(state.expected >> 5), level_of(state.output >> 6)
    left = min(abs(kept[index - 1]), 3) if index > 0 else 0
    before = min(abs(kept[index - 2]), 3) if index > 1 else 0
    above = min(abs(kept[index - state.width]), 2) if state.place >= state.width else 0
    same, last = min(seen[NEAR + 2] >> 12, 2), min(seen[NEAR + 3] >> 12, 2)
    around = ((min(seen[0] >> 12, 2) * 3 + same) * 3 + last) * 3 + above
    return [
        level_of(abs(state.expected_value) >> 7) // 2 * 32 + expected // 2,
        min(state.place, 15) * 64 + expected,
        output // 2 * 32 + level_of(seen[NEAR + 1] >> 6) // 2,
        (left * 4 + before) * 16 + expected // 4,
        level_of(sum(seen[:4]) >> 8) // 2 * 32 + output // 2,
        around * 2 + state.flat,
    ]


def sign_contexts_of(state: Predictors, held: int, logarithm: int) -> list[int]:
    """The six contexts of a sign."""
    level = level_of(abs(state.expected_value) >> 6)
    value = limited(-level if state.expected_value < 0 else level, -31, 31) + 32
    place = min(state.place, 15)
    signs = 0
    for near in state.values[:3]:
        signs = signs * 3 + (2 if near > 0 else 1 if near < 0 else 0)
    return [
        value,
        value // 2 * 32 + level_of(state.expected >> 5) // 2,
        place * 64 + value,
        limited(logarithm >> 4, -31, 31) + 32,
        value * 8 + min(held, 7),
        place * 27 + signs,
    ]


def magnitude_of(coder: Coder, state: Predictors) -> int:
    contexts, place = contexts_of(state), min(state.place, 15)

    def bit(node: int) -> int:
        names = [("magnitude", number, context, node) for number, context in enumerate(contexts)]
        return coder.mixed(names, [("level", level_of(state.expected >> 5) // 4, node), ("place", place, node)], 0)

    digits = 0
    while digits < MOST_DIGITS and bit(min(digits, 11)):
        digits += 1
    magnitude = min(digits, 1)
    for digit in range(digits - 2, -1, -1):
        short = 12 + magnitude + 2 ** (digits - 2) - 2
        magnitude = magnitude * 2 + bit(short if digits <= 4 else 24 + min(digit, 7))
    return magnitude


def is_negative(coder: Coder, state: Predictors, magnitude: int) -> int:
    held = min(magnitude, LARGEST)
    logarithm = state.expected_value * held * 64 // (state.expected + 2048)
    contexts = sign_contexts_of(state, held, logarithm)
    names = [("sign", number, context) for number, context in enumerate(contexts)]
    mixers = [("sign",), ("sign place", min(state.place, 15))]
    return coder.mixed(names, mixers, limited(-logarithm, -2000, 2000))


def center_of(coder: Coder) -> int:
    digits = 0
    while digits < MOST_DIGITS and coder.alone(("center length", digits)):
        digits += 1
    if not digits:
        return 0
    center = 1
    for place in range(digits - 2, -1, -1):
        center = center * 2 + coder.alone(("center digit", place))
    return -center if coder.alone(("center sign",)) else center


def decode_range(data: bytes, shapes: list[Shape]) -> list[list[int]]:
    coder, state, arrays = Coder(data), Predictors(), []
    for shape in shapes:
        array: list[int] = []
        if math.prod(shape):
            state.begin(shape)
            center = center_of(coder)
            for _ in range(state.size):
                state.expect()
                value = magnitude_of(coder, state)
                if value and is_negative(coder, state, value):
                    value = -value
                array.append(value + center)
                state.learn(limited(value, -LARGEST, LARGEST))
        arrays.append(array)
    coder.finish()
    return arrays
