"""What is said about the machine."""

import json
import os
import subprocess
import sys

from resfit.measure.machine import machine, usable_cores

CPUINFO = """processor\t: 0
model name\t: Imagined Processor 9000
flags\t\t: fpu avx2 avx512f avx512_bf16 sse2
processor\t: 1
model name\t: Imagined Processor 9000
"""


def test_processor_and_telling_flags_come_from_cpuinfo(tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    described = machine(tmp_path / "cpuinfo")
    assert described["processor"] == "Imagined Processor 9000"
    assert described["flags"] == ["avx2", "avx512f", "avx512_bf16"]


def test_fingerprint_follows_the_machine(tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    (tmp_path / "other").write_text(CPUINFO.replace("9000", "9001"))
    first = machine(tmp_path / "cpuinfo")
    assert first == machine(tmp_path / "cpuinfo")
    assert first["fingerprint"] != machine(tmp_path / "other")["fingerprint"]


def test_a_machine_without_cpuinfo_is_described_all_the_same(tmp_path):
    described = machine(tmp_path / "absent")
    assert described["processor"]
    assert described["flags"] == []
    json.dumps(described)


def test_cores_are_those_the_process_may_use():
    program = "from resfit.measure.machine import usable_cores; print(usable_cores())"
    if not hasattr(os, "sched_setaffinity"):
        assert usable_cores() == os.cpu_count()
        return
    pinned = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); {program}"
    done = subprocess.run([sys.executable, "-c", pinned], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_versions_are_read_without_importing_the_packages():
    program = (
        "import sys; from resfit.measure.machine import machine; print(machine()['versions']['torch']); "
        "print(sorted({'torch', 'numpy', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    version, imported = done.stdout.splitlines()
    assert version[0].isdigit()
    assert imported == "[]"
