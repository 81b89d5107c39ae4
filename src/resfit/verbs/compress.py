"""`resfit compress`: a model and images in, the smallest file that still answers right out."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from resfit.errors import UsageError
from resfit.verbs.arguments import check_counts


def compress(
    model: Annotated[str, "run folder, checkpoint or .resfit file"],
    data: Annotated[str, "images: class folders, a table of labels, parquet, tars, NumPy arrays, or 'digits'"],
    *,
    max_drop: Annotated[
        float | None,
        "most percentage points of accuracy to lose (default: 0.5, or no limit with --file-kb)",
    ] = None,
    file_kb: Annotated[float | None, "limit: size of the file in units of 1,000 bytes"] = None,
    speedup: Annotated[float | None, "remove channels until so many times fewer multiply-accumulates are left"] = None,
    importance: Annotated[
        Literal["taylor", "magnitude", "norm_scale"] | None, "which channels go first (default: taylor)"
    ] = None,
    width_multiple: Annotated[
        int | None, "remaining widths are multiples of it: 4 loses less than 16, and is slower (default: 8)"
    ] = None,
    sparsity: Annotated[
        float | None, "set this share of the weights to zero, the least first: a smaller file, and no faster"
    ] = None,
    epochs: Annotated[int, "passes over the training images to win back what smaller models lose"] = 0,
    method: Annotated[
        Literal["auto", "prune", "quantise", "share", "fp16", "bf16", "code"],
        "auto: rate-distortion rounding; quantise: plain grids; share: k-means; prune, code: nothing more",
    ] = "auto",
    bits: Annotated[int | None, "of quantise and share, a weight: 2 to 8 (default: the fewest that do)"] = None,
    codec: Annotated[Literal["range", "huffman", "lzw", "zstd", "raw"], "how symbols become bytes"] = "range",
    out: Annotated[str | None, "file to write (default: MODEL's name with .resfit)"] = None,
    img_size: Annotated[int | None, "square input size (default: the model's; the data's for a checkpoint)"] = None,
    mean: Annotated[tuple[float, ...] | None, "means a checkpoint was trained with, as fractions of 255"] = None,
    std: Annotated[tuple[float, ...] | None, "deviations a checkpoint was trained with"] = None,
    split_seed: Annotated[int | None, "seed of the cut of data without splits (default: the model's own, or 0)"] = None,
    max_unreadable: Annotated[
        float | None, "share of images, 0 to 1, that may be left out as unreadable (default: the run's, or 0)"
    ] = None,
    seed: Annotated[int, "seed of every choice by chance"] = 0,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Make a model small, and prove that it still answers as well as you ask.

    Points are tried and chosen without the test images, by what they lose elsewhere; the test images are read
    once, by a new process that opens the written file. A wish that cannot be kept ends with exit code 3 and the
    nearest points. An interrupted command goes on where it stopped when it is run again.
    """
    check_counts(img_size=img_size, threads=threads, width_multiple=width_multiple)
    wish = _wish(max_drop, file_kb)
    _check_channels(speedup, importance, width_multiple)
    _check_smaller(method, speedup, sparsity, epochs)
    _check_bits(method, bits)
    path = _output(out, model)
    from resfit.verbs.compressing import Job

    job = Job(
        source=model, data=data, path=path, method=method, bits=bits, codec=codec, speedup=speedup,
        importance=importance or "taylor", width_multiple=width_multiple or 8, sparsity=sparsity, epochs=epochs,
        wish=wish, img_size=img_size, mean=mean, std=std, split_seed=split_seed, max_unreadable=max_unreadable,
        seed=seed, threads=threads, say=_to_standard_error,
    )  # fmt: skip
    return job.run()


def render(result: dict[str, Any]) -> str:
    """What a person sees of a compression."""
    lines = []
    if not result["trained"]:
        lines.append(f"weights   untrained: those of {result['model']} are random")
    if result["artifact"] is not None:
        artifact = result["artifact"]
        lines += [
            f"wrote     {artifact['path']}, {artifact['file_bytes'] / 1000:,.1f} kB, sha256 {artifact['sha256'][:12]}",
            f"ratio     {result['ratio']:.1f}x: {result['parameters']:,} parameters of 4 bytes over the whole file",
            f"accuracy  {result['accuracy_after']:.2%}, before {result['accuracy_before']:.2%}: "
            f"a drop of {result['drop']:.2f} points on {result['num_images']:,} test images",
            f"chosen    on {result['selected_on']}",
        ]
        if result["macs_after"] != result["macs_before"]:
            lines.append(f"work      {result['macs_before'] / result['macs_after']:.2f}x fewer multiply-accumulates")
    if result["exit_code"]:
        lines += [f"binding   {', '.join(result['binding'])}", "nearest"]
        lines += [
            f"  {point['file_bytes'] / 1000:,.1f} kB, about {point['estimated_drop']:.2f} points lost"
            for point in result["nearest"]
        ]
    if result["work_folder"] is not None:
        lines.append(f"kept      {result['work_folder']}: the same command with another wish goes on with it")
    return "\n".join(lines)


def _output(out: str | None, model: str) -> Path:
    path = Path(out) if out is not None else Path(Path(model).resolve().stem + ".resfit")
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder", hint=f"name a file, for example {path / 'model.resfit'}")
    if out is None and path.resolve() == Path(model).resolve():
        raise UsageError(f"the result would take the place of {model} itself", hint="name another file with --out")
    return path


def _wish(max_drop: float | None, file_kb: float | None) -> Any:
    if max_drop is not None and not 0 <= max_drop <= 100:
        raise UsageError(f"--max-drop is {max_drop:g}, expected 0 to 100 percentage points")
    if file_kb is not None and not 0.001 <= file_kb <= 1e9:  # a byte at least
        raise UsageError(f"--file-kb is {file_kb:g}, expected 0.001 to 1,000,000,000")
    from resfit.compression.wish import Wish

    drop = 0.5 if max_drop is None and file_kb is None else max_drop
    return Wish(max_drop=drop, file_bytes=None if file_kb is None else int(1000 * file_kb))


def _check_channels(speedup: float | None, importance: str | None, width_multiple: int | None) -> None:
    if speedup is not None:
        if not 1 < speedup <= 1000:
            raise UsageError(f"--speedup is {speedup:g}, expected more than 1 and at most 1,000")
        return
    for flag, value in (("--importance", importance), ("--width-multiple", width_multiple)):
        if value is not None:
            raise UsageError(f"{flag} chooses channels, and none are to go", hint="give --speedup, or leave it out")


def _check_smaller(method: str, speedup: float | None, sparsity: float | None, epochs: int) -> None:
    if method == "prune" and speedup is None and sparsity is None:
        raise UsageError("--method prune removes nothing by itself", hint="give --speedup or --sparsity")
    if sparsity is not None and not 0 < sparsity < 1:
        raise UsageError(f"--sparsity is {sparsity:g}, expected a share between 0 and 1")
    if epochs < 0:
        raise UsageError(f"--epochs is {epochs}, expected 0 or more")
    if epochs and method != "auto" and speedup is None and sparsity is None:
        raise UsageError(
            f"--epochs trains nothing with --method {method}",
            hint="leave one of them out, or give --speedup or --sparsity: what they leave is trained on",
        )


def _check_bits(method: str, bits: int | None) -> None:
    if bits is None:
        return
    if method not in ("quantise", "share"):
        raise UsageError(f"--bits says nothing to --method {method}", hint="leave it out, or choose quantise or share")
    if not 2 <= bits <= 8:
        raise UsageError(f"--bits is {bits}, expected 2 to 8", hint="--method fp16 and bf16 store 16-bit floats")


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
