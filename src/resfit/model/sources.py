"""Where a model is that is named and not a path: in the caches of torchvision, timm and the hub, or on the hub."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from resfit.errors import ModelError, UsageError, nearest
from resfit.model.hub import Repository, cached, cached_names, fetch, repository

HUB, TIMM, TORCHVISION = "hf-hub:", "timm:", "torchvision:"
TIMM_ORGANISATION = "timm"
SUFFIXES = (".pth", ".pt", ".th")
FILE_SUFFIXES = (*SUFFIXES, ".bin", ".tar", ".safetensors", ".resfit", ".onnx", ".xml")
_HASHED = re.compile(r"([^/\\]+)-[0-9a-f]{8,64}\.(?:pth|pt|th)")
_TAGGED = re.compile(r"[a-z]\w*\.\w+")  # timm's NAME.TRAINING, as resnet50.a1_in1k


@dataclass(frozen=True, kw_only=True)
class Located:
    """The file or folder that a name means, and what provenance says it is."""

    path: Path
    source: str


def torch_cache() -> Path:
    """The folder that torch.hub, and so torchvision, keeps checkpoints in; it need not exist."""
    return Path(torch.hub.get_dir(), "checkpoints")


def locate(name: str) -> Located | None:
    """Where the weights of a name are; None for a name that means none, such as a network's.

    hf-hub:ORG/NAME[@REVISION], or ORG/NAME where there is no folder ORG here: the hub's cache, else the hub itself.
    timm:NAME or NAME.TRAINING: a model of timm's in the hub's cache. torchvision:NAME: a checkpoint of that network
    in torch's cache, NAME-HASH one by its file name. What is meant and not there is a UsageError that names what is.
    """
    if name.startswith(HUB):
        wanted = repository(name.removeprefix(HUB))
        if wanted is None:
            raise UsageError(
                f"{name} names no model of the hub", hint=f"expected {HUB}ORG/NAME or {HUB}ORG/NAME@REVISION"
            )
        return _located(wanted, fetch(wanted))
    if name.startswith(TORCHVISION):
        return _only(name, torchvision_candidates(name.removeprefix(TORCHVISION)), torch_cache())
    if name.startswith(TIMM):
        return _timm(name, name.removeprefix(TIMM))
    if (file := _torch_file(name)) is not None:
        return Located(path=file, source=f"{TORCHVISION}{file.stem}")
    if _TAGGED.fullmatch(name) and (folder := cached(Repository(name=f"{TIMM_ORGANISATION}/{name}"))) is not None:
        return Located(path=folder, source=f"{TIMM}{name}")
    wanted = repository(name)
    if wanted is None or Path(name).parent.is_dir() or Path(name).suffix in FILE_SUFFIXES:
        return None  # a path: nobody is asked for what was mistyped
    try:
        return _located(wanted, fetch(wanted))
    except ModelError as error:  # a path that was mistyped looks the same
        raise UsageError(
            f"{name} is no folder and no file; as a model of the hub: {error.message}", hint=error.hint
        ) from error


def locate_weights(network: str) -> Located:
    """The weights of a network's bare name in the caches; UsageError where there are none, or several."""
    return _only(network, pretrained_candidates(network), torch_cache())


def pretrained_candidates(network: str) -> dict[str, Path]:
    """What the caches hold for a network's name: the names of the weights, and where they are."""
    return torchvision_candidates(network) | timm_candidates(network)


def torchvision_candidates(network: str) -> dict[str, Path]:
    """Checkpoints of a network in torch's cache by name: NAME-HASH, or NAME_TRAINING-HASH as timm has them there."""
    files = sorted(torch_cache().glob("*")) if torch_cache().is_dir() else []
    named = [(file, match[1]) for file in files if (match := _HASHED.fullmatch(file.name))]
    return {f"{TORCHVISION}{file.stem}": file for file, name in named if network in (name, file.stem)}


def timm_candidates(network: str) -> dict[str, Path]:
    """Models of timm's in the hub's cache by name: that of the network, with any training."""
    found = {}
    for name in cached_names(TIMM_ORGANISATION):
        if network in (name, name.partition(".")[0]):
            folder = cached(Repository(name=f"{TIMM_ORGANISATION}/{name}"))
            assert folder is not None
            found[f"{TIMM}{name}"] = folder
    return found


def _timm(asked: str, name: str) -> Located:
    candidates = timm_candidates(name)
    if not candidates and (known := cached_names(TIMM_ORGANISATION)):
        raise UsageError(f"{asked} is not in the hub's cache", hint=nearest(name, known))
    return _only(asked, candidates, None)


def _only(asked: str, candidates: dict[str, Path], folder: Path | None) -> Located:
    if len(candidates) == 1:
        source, path = next(iter(candidates.items()))
        return Located(path=path, source=source)
    if candidates:
        raise UsageError(f"there are {len(candidates)} weights of {asked}", hint=f"name one: {', '.join(candidates)}")
    name = asked.partition(":")[2] or asked
    where = "the hub's cache" if folder is None else f"the caches (torch's is {folder})"
    raise UsageError(
        f"no weights of {asked} are in {where}",
        hint=f"give a run folder or a checkpoint, or fetch weights: {HUB}{TIMM_ORGANISATION}/{name}.TRAINING",
    )


def _torch_file(name: str) -> Path | None:
    """The checkpoint in torch's cache that NAME-HASH means, with or without its suffix."""
    names = [name, *(name + suffix for suffix in SUFFIXES)]
    files = [torch_cache() / file for file in names if _HASHED.fullmatch(file)]
    return next((file for file in files if file.is_file()), None)


def _located(wanted: Repository, folder: Path) -> Located:
    commit = folder.name[:12]
    return Located(path=folder, source=f"{HUB}{wanted.name}@{commit}")
