"""The range codec: literal bytes, plain and compiled alike, sizes beside the entropy, what its model sees."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from resfit.coding import context_mixing, logistic_mixing
from resfit.coding.codec import CodingError
from resfit.coding.codecs import CODECS
from resfit.coding.range_codec import Range

Tensors = list[np.ndarray]

ROUND_TRIP = """
import sys
import numpy as np
from resfit.coding.range_codec import Range
from resfit.coding import compiled
generator = np.random.default_rng(5)
tensors = [
    np.rint(generator.laplace(0, 1, (4, 5, 3, 3))).astype(np.int32), np.array([2**31 - 1, -(2**31), 0, 900]),
    generator.integers(100, 120, (2, 9)), np.rint(generator.laplace(0, 20, (2, 2, 5, 5))).astype(np.int32),
]
data, ends = Range().encode(tensors)
back = Range().decode(data, [tensor.shape for tensor in tensors], max_symbols=1000)
assert all(np.array_equal(one, other) for one, other in zip(tensors, back, strict=True))
print(data.hex(), ends, compiled.row([1]).__class__.__name__)
"""


def in_new_process(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def size(*tensors: np.ndarray) -> int:
    return len(Range().encode(list(tensors))[0])


def adaptive_entropy_bytes(tensor: np.ndarray) -> float:
    """What an adaptive coder that sees no neighbours pays, each symbol's count beginning at 1/2."""
    counts = np.bincount((tensor - tensor.min()).ravel())
    cost = math.lgamma(len(counts) / 2 + counts.sum()) - math.lgamma(len(counts) / 2)
    cost -= sum(math.lgamma(count + 0.5) - math.lgamma(0.5) for count in counts)
    return cost / math.log(2) / 8


def laplace(shape: tuple[int, ...], *, seed: int = 0, scale: float | np.ndarray = 1.0) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).laplace(0, scale, shape)).astype(np.int32)


def test_the_bytes_of_small_tensors_stay_for_ever() -> None:
    expected = {
        (0, 1, -1, 2, 0, 0, -3, 1): "da431629",
        (5, 5, 5, 5, 5, 5): "1c14",
        (1000, -70000, 2**31 - 1, -(2**31)): "8052852a3723cf7dbd4260ac5db5c9ffffffef",
    }
    for symbols, data in expected.items():
        assert Range().encode([np.array(symbols)])[0].hex() == data
        assert Range().decode(bytes.fromhex(data), [(len(symbols),)], max_symbols=8)[0].tolist() == list(symbols)


def test_plain_python_gives_the_same_bytes_as_compiled_code() -> None:
    compiled = in_new_process(ROUND_TRIP)
    assert compiled.endswith("ndarray\n")
    plain = compiled.replace("ndarray", "list")
    assert in_new_process(ROUND_TRIP, NUMBA_DISABLE_JIT="1") == plain
    assert in_new_process("import sys; sys.modules['numba'] = None\n" + ROUND_TRIP) == plain


def test_a_symbol_beyond_32_bits_is_refused_at_once() -> None:
    """Bytes that are all 0 are bits that are all one: magnitudes of 33 digits."""
    code = "from resfit.coding.range_codec import Range\nRange().decode(bytes(99), [(10**6,)], max_symbols=10**6)"
    wrapped = f"try:\n    exec({code!r})\nexcept Exception as error:\n    print(type(error).__name__, error)"
    expected = "CodingError the coded data holds a symbol beyond 32 bits\n"
    assert in_new_process(wrapped) == expected
    assert in_new_process(wrapped, NUMBA_DISABLE_JIT="1") == expected


def test_compiled_code_is_kept_in_the_users_cache_alone(tmp_path: Path) -> None:
    source = loop_source(tmp_path)
    assert in_new_process(source, XDG_CACHE_HOME=str(tmp_path / "cache")) == "45\n"
    assert list(tmp_path.glob("cache/resfit/numba-*/**/*.nbc"))
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "loop.py"}


def test_where_nothing_can_be_written_it_compiles_each_time(tmp_path: Path) -> None:
    source = loop_source(tmp_path)
    (tmp_path / "blocked").write_bytes(b"")
    assert in_new_process(source, XDG_CACHE_HOME=str(tmp_path / "blocked")) == "45\n"
    assert {path.name for path in tmp_path.iterdir()} == {"blocked", "loop.py"}


def loop_source(folder: Path) -> str:
    """A program that compiles a small loop from a file in the folder, where only it could leave something."""
    loop = "from resfit.coding.compiled import compiled\n\n@compiled\ndef add(count):\n    total = 0\n"
    loop += "    for number in range(count):\n        total += number\n    return total\n"
    (folder / "loop.py").write_text(loop)
    lines = ["import sys", "sys.dont_write_bytecode = True", f"sys.path.insert(0, {str(folder)!r})"]
    return "\n".join([*lines, "import loop", "assert hasattr(loop.add, 'py_func')", "print(loop.add(10))"])


def test_symbols_of_chance_cost_little_more_than_their_entropy() -> None:
    tensor = laplace((64, 32, 3, 3))
    assert size(tensor) < 1.012 * adaptive_entropy_bytes(tensor)
    assert size(np.random.default_rng(0).integers(-128, 128, (40, 400))) < 1.02 * 16000


def test_a_constant_costs_nearly_nothing() -> None:
    assert size(np.zeros((100, 100, 3, 3), np.int32)) < 60
    assert size(np.full((100, 100, 3, 3), 7)) < 60


def test_channels_of_different_size_are_told_apart() -> None:
    scales = np.random.default_rng(1).choice([0.2, 2.0], (64, 32, 1, 1))
    for axis in (0, 1):
        by_channel = laplace((64, 32, 3, 3), scale=scales[:, :1] if axis == 0 else scales[:1, :])
        assert size(by_channel) < 0.9 * adaptive_entropy_bytes(by_channel)


def test_signs_are_foretold_from_the_same_kernel() -> None:
    """Kernels that are flat, up to chance: a sign alone would cost a bit."""
    generator = np.random.default_rng(2)
    kernels = generator.normal(0, 2, (64, 32, 1, 1)) + generator.normal(0, 1, (64, 32, 3, 3))
    smooth = np.rint(kernels).astype(np.int32)
    signs = generator.choice([-1, 1], smooth.shape)
    assert size(smooth) < 0.85 * size((smooth * signs).astype(np.int32))


def test_what_one_tensor_teaches_serves_the_next() -> None:
    tensors = [laplace((8, 8, 3, 3), seed=seed) for seed in range(8)]
    assert size(*tensors) < 0.97 * sum(size(tensor) for tensor in tensors)


def test_vectors_have_a_mean_of_their_own() -> None:
    """Biases are large where kernels are small; between kernels they do not disturb."""
    tensors: Tensors = []
    for seed in range(4):
        tensors += [laplace((16, 8, 3, 3), seed=seed, scale=0.5), laplace((16,), seed=seed, scale=60.0)]
    as_kernels = [tensor.reshape(len(tensor), -1) if tensor.ndim == 1 else tensor for tensor in tensors]
    assert size(*tensors) <= size(*as_kernels) - 8


def test_symbols_around_another_number_than_zero_cost_as_much() -> None:
    tensor = laplace((32, 32, 3, 3))
    assert abs(size(tensor + 1000) - size(tensor)) < 10


def test_fewer_bytes_than_every_other_codec_on_weights() -> None:
    tensors = [laplace((32, 16, 3, 3), scale=np.linspace(0.2, 1.5, 32).reshape(-1, 1, 1, 1)), laplace((10, 32))]
    sizes = {name: len(codec.encode(tensors)[0]) for name, codec in CODECS.items()}
    assert min(sizes, key=lambda name: sizes[name]) == "range"
    assert sizes["range"] < 0.95 * sorted(sizes.values())[1]


def test_no_two_streams_are_the_same_symbols() -> None:
    """Around the same zero: every stream that is accepted is what an encoder writes."""
    written = []
    for data in [b"", *(bytes([number]) for number in range(256))]:
        try:
            tensor = Range().decode(data, [(2, 2)], max_symbols=4)[0]
        except CodingError:
            continue
        if Range().encode([tensor])[0] == data:  # else it had another zero than an encoder chooses
            written.append(tensor.tobytes())
    assert len(written) > 100
    assert len(set(written)) == len(written)


def test_the_tables_follow_their_formulas() -> None:
    squash, stretch = logistic_mixing.squash_table(), logistic_mixing.stretch_table()
    span = logistic_mixing.SPAN
    for logarithm in range(-span, span + 1):
        exact = 65536 / (1 + math.exp(-logarithm / 256))
        assert abs(squash[logarithm + span] - exact) <= 2
    assert squash == sorted(squash)
    assert (squash[0], squash[-1]) == (1, 65535)
    assert stretch == sorted(stretch)
    assert [squash[value + span] >= 16 * step + 8 for step, value in enumerate(stretch)] == [True] * 4096
    levels = context_mixing.level_table()
    assert levels == sorted(levels)
    assert levels[:9] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    for number in (0, 7, 8, 2047, 2048, 4095, 10**5, 2**24):
        shift = max(0, number.bit_length() - 3)
        assert context_mixing.level_of(np.array(levels), number) == min(63, 4 * shift + (number >> shift))


def test_published_weights_take_less_than_their_entropy(shared: Path) -> None:
    """ResNet-20, folded, rounded to about two bits a weight: at least 4 % below an adaptive coder of order 0."""
    from resfit.model.fold import fold
    from resfit.model.load import load

    model = fold(load(shared / "weights" / "resnet20-12fca82f.th"))
    kernels = [tensor.numpy() for name, tensor in model.weights.items() if name.endswith("weight")]
    tensors = [np.rint(kernel / kernel.std() / 0.9).astype(np.int32) for kernel in kernels]
    entropy = sum(adaptive_entropy_bytes(tensor) for tensor in tensors)
    weights = sum(tensor.size for tensor in tensors)
    assert 1.6 < 8 * entropy / weights < 2.4
    assert size(*tensors) < 0.96 * entropy
