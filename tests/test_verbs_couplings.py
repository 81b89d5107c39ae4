"""`resfit inspect --couplings`: which channels go together, for a person and for a program."""

import resfit
from resfit.verbs.inspect import render


def test_the_flag_adds_them_and_without_it_they_are_not_there():
    rows = resfit.inspect("resnet32", couplings=True)["couplings"]
    assert "couplings" not in resfit.inspect("resnet32")
    by_name = {row["name"]: row for row in rows}
    assert by_name["layer1.sum"]["channels"] == 16
    assert (
        len(by_name["layer1.sum"]["written_by"]) == 16
    )  # the stem and all branches: the zero-padded sums hold them too
    assert by_name["layer2.1.conv1"] == {
        "name": "layer2.1.conv1",
        "channels": 32,
        "written_by": ["layer2.1.conv1"],
        "read_by": ["layer2.1.conv2"],
        "groups": 1,
        "block_can_go": True,
    }


def test_a_person_reads_a_line_each():
    lines = render(resfit.inspect("resnet32", couplings=True)).splitlines()
    line = next(line for line in lines if line.startswith("layer3.sum"))
    assert line.split("  written by ")[1].startswith("5 x layer3 conv2")
    assert "read by 4 x layer3 conv1, fc" in line
    assert next(line for line in lines if line.startswith("layer3.4.conv1")).endswith("(the block can go)")
    grouped = render(resfit.inspect("resnext50_32x4d", couplings=True))
    assert "128 channels  written by layer1.0.conv1" in grouped
    assert "in 32 equal groups" in grouped
