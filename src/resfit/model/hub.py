"""The Hugging Face hub: its cache on this machine, read as it lies, and what is fetched when it is asked for.

The cache holds models--ORG--NAME/refs/REVISION, a file with a commit, and snapshots/COMMIT/, a folder of files.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resfit.errors import MissingExtra, ModelError, UsageError

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
REVISION = "main"
ANSWER_SECONDS = 10.0
_REPOSITORY = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w.-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_OFFLINE = ("1", "true", "yes", "on")  # as the hub's own library reads its switches


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A model on the hub: ORG/NAME, and the branch, tag or commit that is meant."""

    name: str
    revision: str = REVISION

    def __str__(self) -> str:
        return self.name if self.revision == REVISION else f"{self.name}@{self.revision}"


def repository(text: str) -> Repository | None:
    """The repository that ORG/NAME or ORG/NAME@REVISION names; None for any other text."""
    match = _REPOSITORY.fullmatch(text)
    return Repository(name=match[1], revision=match[2] or REVISION) if match else None


def cache_folder() -> Path:
    """Where the hub's own library keeps what it fetched; the folder need not exist."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else cache / "huggingface") / "hub"


def cached(wanted: Repository) -> Path | None:
    """The folder of the repository's files in the cache; None where it lacks configuration or weights."""
    return snapshot(cache_folder() / f"models--{wanted.name.replace('/', '--')}", wanted.revision)


def snapshot(entry: Path, revision: str = REVISION) -> Path | None:
    """The folder with a revision's files of one entry of the cache, if it holds a model."""
    commit = revision
    reference = entry / "refs" / revision
    if reference.is_file():
        commit = reference.read_text(encoding="utf-8", errors="replace").strip()
    folder = entry / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and weight_file(folder) and (folder / CONFIG).is_file() else None


def weight_file(folder: Path) -> Path | None:
    """The file with a folder's weights, safetensors before what torch saved; None where there is none."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


def cached_names(organisation: str) -> list[str]:
    """The models of an organisation that the cache holds, without the organisation, in order."""
    prefix = f"models--{organisation}--"
    entries = sorted(cache_folder().glob(f"{prefix}*"))
    return [entry.name.removeprefix(prefix) for entry in entries if snapshot(entry) is not None]


def fetch(wanted: Repository) -> Path:
    """The folder with the repository's configuration and weights, from the cache or else from the hub.

    The endpoint is HF_ENDPOINT or the hub's own. Without the network, with HF_HUB_OFFLINE set, or without such a
    repository on it: a ModelError; without the library that fetches: MissingExtra.
    """
    folder = cached(wanted)
    if folder is not None:
        return folder
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _OFFLINE:
        raise ModelError(
            f"{wanted} is not in the cache {cache_folder()}, and HF_HUB_OFFLINE forbids to fetch it",
            hint="unset HF_HUB_OFFLINE, or give the folder of a copy",
        )
    try:
        import huggingface_hub as library
    except ImportError as error:
        raise MissingExtra("huggingface_hub", extra="hub", purpose=f"fetching {wanted} from the hub") from error
    with _as_model_errors(wanted):
        # Asked first because it fails at once where there is no network; a download tries again for half a minute
        endpoint = os.environ.get("HF_ENDPOINT") or None
        address = library.hf_hub_url(wanted.name, CONFIG, revision=wanted.revision, endpoint=endpoint)
        library.get_hf_file_metadata(address, timeout=ANSWER_SECONDS)
    config = _download(wanted, CONFIG)
    _download(wanted, PREPROCESSOR)
    if config is None or not any(_download(wanted, name) for name in WEIGHT_FILES):
        raise ModelError(f"{wanted} has neither {' nor '.join(WEIGHT_FILES)} on the hub", hint="name another one")
    return config.parent


def _download(wanted: Repository, file: str) -> Path | None:
    """One file of the repository in the cache; None where the repository has no such file."""
    import huggingface_hub as library

    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        with _as_model_errors(wanted):
            path = library.hf_hub_download(
                wanted.name, file, revision=wanted.revision, cache_dir=cache_folder(), endpoint=endpoint
            )
    except _NoSuchFile:
        return None
    return Path(path)


class _NoSuchFile(ModelError):
    """The repository is there, and the file is not."""


@contextlib.contextmanager
def _as_model_errors(wanted: Repository) -> Iterator[None]:
    """What the hub and its library answer, as errors that say what can be done."""
    from huggingface_hub import errors

    where = os.environ.get("HF_ENDPOINT") or "the hub"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(f"{where} gives {wanted} with permission only", hint="ask for it there, and log in") from error
    except errors.RepositoryNotFoundError as error:
        hint = "check the spelling, or log in to it"
        raise ModelError(f"there is no model {wanted.name} on {where}, or it is private", hint=hint) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{wanted.name} on {where} has no revision {wanted.revision}") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _unreachable(wanted, where) from error
    except errors.EntryNotFoundError as error:
        raise _NoSuchFile(f"{wanted} on {where} has no {CONFIG}: no model that can be read") from error
    except errors.HfHubHTTPError as error:
        raise ModelError(
            f"{where} answers {error.response.status_code} for {wanted}", hint="try again later"
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(f"{wanted} is no name that the hub allows: {error}") from error
    except errors.HTTPError as error:  # of the library's own HTTP client: no connection, no answer in time
        raise _unreachable(wanted, where) from error


def _unreachable(wanted: Repository, where: str) -> ModelError:
    return ModelError(
        f"{wanted} is not in the cache {cache_folder()}, and {where} cannot be reached",
        hint="try again with a network, or give the folder of a copy",
    )
