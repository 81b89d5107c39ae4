"""The peaks of a machine, and the least time that follows from them."""

import pytest
import torch

from resfit.measure.roofline import Roofline, measure_here

PEAKS = Roofline(threads=2, gemm_gops={"fp32": 100.0, "int8": 400.0}, memory_gb_per_second=10.0)


def test_peaks_are_measured_for_each_precision():
    before = torch.get_num_threads()
    try:
        peaks = measure_here(1, size=256, values=1 << 20, seconds=0.02)
    finally:
        torch.set_num_threads(before)
    assert set(peaks.gemm_gops) == {"fp32", "bf16", "int8"}
    assert all(value > 0 for value in (*peaks.gemm_gops.values(), peaks.memory_gb_per_second))
    assert Roofline.from_dict(peaks.to_dict()) == peaks


def test_arithmetic_or_memory_binds():
    small = {"macs": 10_000_000, "batch_size": 1}
    assert PEAKS.least_ms(**small, weight_bytes=1000, precision="fp32") == pytest.approx(0.2)
    assert PEAKS.least_ms(**small, weight_bytes=1000, precision="int8") == pytest.approx(0.05)
    assert PEAKS.least_ms(**small, weight_bytes=10_000_000, precision="int8") == pytest.approx(1.0)
    assert PEAKS.least_ms(macs=10_000_000, batch_size=8, weight_bytes=1000, precision="fp32") == pytest.approx(1.6)
    assert PEAKS.least_ms(**small, weight_bytes=1000, precision="bf16") is None
