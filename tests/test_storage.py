"""Files appear whole or not at all, and nothing of a user's is ever swallowed."""

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from resfit.errors import UsageError
from resfit.storage import keep_earlier, new_folder, prepare_folder, read_json, sha256_file, write_atomic


def test_write_atomic_makes_folders_and_replaces_content(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    write_atomic(path, b"first")
    write_atomic(path, lambda file: file.write(b"second") and None)
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["file.bin"]


def full_disk(file: BinaryIO) -> None:
    file.write(b"half of the new cont")
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(file: BinaryIO) -> None:
    file.write(b"half of the new cont")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("writer", "error"), [(full_disk, OSError), (interrupted, KeyboardInterrupt)])
def test_a_failing_writer_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, writer: object, error: type[BaseException]
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old content")
    with pytest.raises(error):
        write_atomic(path, writer)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old content"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_really_full_device_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports a full disk at flush or fsync too, after the writer has returned."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"old content")

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new content")
    assert path.read_bytes() == b"old content"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old content")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old content"

    write_atomic(path, write)
    assert path.read_bytes() == b"new"


def test_permissions_follow_the_mask_and_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    mask = os.umask(0o027)
    try:
        write_atomic(path, b"")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        write_atomic(path, b"")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(mask)


def test_prepare_folder_takes_new_and_empty_folders(tmp_path: Path) -> None:
    for _ in range(2):
        assert prepare_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert os.listdir(tmp_path / "a") == ["b"]


@pytest.mark.parametrize("marker", ["config.json", "fit.json", "checkpoints/"])
def test_prepare_folder_moves_earlier_runs_aside(
    tmp_path: Path, marker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    (tmp_path / "run.1").mkdir()  # taken by somebody else, and stays as it is
    for number in (2, 3):
        run.mkdir(exist_ok=True)
        if marker.endswith("/"):
            (run / marker).mkdir()
        else:
            (run / marker).write_text("{}")
        (run / "own.txt").write_text(str(number))
        prepare_folder(run)
        assert not any(run.iterdir())
        assert (tmp_path / f"run.{number}" / "own.txt").read_text() == str(number)
        assert f"run.{number}" in capsys.readouterr().err
    assert not any((tmp_path / "run.1").iterdir())


def test_prepare_folder_refuses_what_resfit_did_not_make(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"picture")
    with pytest.raises(UsageError, match="photos holds things that resfit did not make"):
        prepare_folder(folder)
    assert (folder / "holiday.jpg").read_bytes() == b"picture"
    with pytest.raises(UsageError, match="is a file"):
        prepare_folder(folder / "holiday.jpg")
    with pytest.raises(UsageError, match="cannot make the folder"):
        prepare_folder(folder / "holiday.jpg" / "inside")


def test_prepare_folder_goes_through_links(tmp_path: Path) -> None:
    disk, link = tmp_path / "disk" / "run", tmp_path / "link"
    link.symlink_to(disk)
    for _ in range(2):
        prepare_folder(link)
        assert link.is_symlink()
        (link / "config.json").write_text("{}")
    assert sorted(os.listdir(tmp_path / "disk")) == ["run", "run.1"]


def test_prepare_folder_does_not_move_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="the folder you are in"):
        prepare_folder(".")
    assert (tmp_path / "config.json").exists()


def test_new_folder_takes_the_first_free_number(tmp_path: Path) -> None:
    assert new_folder(tmp_path / "runs", "some/my photos/") == tmp_path / "runs" / "my-photos-1"
    (tmp_path / "runs" / "my-photos-2").write_text("a file of that name")
    assert new_folder(tmp_path / "runs", "my photos") == tmp_path / "runs" / "my-photos-3"
    assert new_folder(tmp_path / "runs", "/") == tmp_path / "runs" / "data-1"
    with pytest.raises(UsageError, match="cannot make the folder"):
        new_folder(tmp_path / "runs" / "my-photos-2", "x")


def test_keep_earlier_moves_a_file_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    keep_earlier(path)
    for number in (1, 2):
        path.write_text(str(number))
        keep_earlier(path)
        assert not path.exists()
        assert (tmp_path / f"model.onnx.{number}").read_text() == str(number)
        assert f"model.onnx.{number}" in capsys.readouterr().err
    with pytest.raises(UsageError, match="is a folder"):
        keep_earlier(tmp_path)


def test_prepare_folder_takes_a_custom_marker(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bench.json").write_text("{}")
    with pytest.raises(UsageError):
        prepare_folder(tmp_path / "run")
    prepare_folder(tmp_path / "run", marker_names=("bench.json",))
    assert (tmp_path / "run.1" / "bench.json").is_file()


def test_sha256_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_json_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    assert read_json(path) is None
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
    path.write_bytes(b"{\xff")
    assert read_json(path) is None
