"""timm's inference loop over a folder, a turn whenever a line comes on standard input; for predict_jpegs.py.

    python benchmarks/timm_loop.py REQUEST.json

REQUEST.json: {"files": FOLDER, "weights": FILE.safetensors, "num_classes", "input_size": [channels, height, width],
"mean", "std", "threads"}. A turn is answered by a line {"seconds", "answers"}: the classes in the order of the
files' names. A process of its own, as timm and its loader's workers would otherwise share one with other runtimes.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

BATCH_SIZE = 32
LOADER_WORKERS = 2  # the default of timm's inference script


def main() -> int:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    libraries = [torchvision_operators()]  # which are there as long as this is
    import timm
    from timm.data import create_dataset

    network = timm.create_model("resnet50", pretrained=False, num_classes=request["num_classes"])
    network.load_state_dict(load_file(request["weights"]))
    network.eval()
    dataset = create_dataset("", root=request["files"])
    for _ in sys.stdin:
        begin = time.perf_counter()
        answers = turn(network, dataset, request)
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "answers": answers}), flush=True)
    return 0 if libraries else 1


def turn(network: Any, dataset: Any, request: dict[str, Any]) -> list[int]:
    """As timm's inference script: its loader with prefetcher, float32, eager, softmax and top 1."""
    from timm.data import create_loader

    loader = create_loader(
        dataset,
        input_size=tuple(request["input_size"]),
        batch_size=BATCH_SIZE,
        use_prefetcher=True,
        is_training=False,
        num_workers=LOADER_WORKERS,
        interpolation="bilinear",
        mean=tuple(request["mean"]),
        std=tuple(request["std"]),
        crop_pct=1.0,
        device=torch.device("cpu"),
    )
    found: list[int] = []
    with torch.inference_mode():
        for images, _ in loader:
            found += network(images).softmax(-1).topk(1)[1][:, 0].tolist()
    names = [Path(name).name for name in dataset.filenames(basename=True)]
    return [answer for _, answer in sorted(zip(names, found, strict=True))]


def torchvision_operators() -> torch.library.Library:
    """Some builds of torch lack torchvision's detection operators: a classifier needs none, but its import does."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        try:
            library.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        except RuntimeError:
            break  # they are there
    return library


if __name__ == "__main__":
    sys.exit(main())
