"""Files are whole or absent, and what was there before survives every failure."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dgex import files
from dgex.errors import DataError, UsageError
from dgex.files import (
    disk_errors,
    free_bytes,
    partial_path,
    read_toml,
    refuse_existing,
    refuse_folder,
    refuse_unwritable,
    sha256_of,
    whole_directory,
    whole_file,
    write_json,
    write_toml,
)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def made_by_dgex(folder: Path, content: str = "old") -> Path:
    folder.mkdir()
    (folder / "run.toml").write_text("")
    (folder / "model").write_text(content)
    return folder


def test_a_file_has_its_name_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.txt"
    with whole_file(path) as partial:
        partial.write_text("half")
        assert partial == partial_path(path)
        assert partial.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "half"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failed_file_leaves_nothing_and_the_old_one_stays(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), whole_file(path) as partial:  # noqa: PT012
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with (
        pytest.raises(UsageError, match=r"a\.txt exists already.*--overwrite"),
        whole_file(path, overwrite=False),
    ):
        pytest.fail("must not come here")
    with whole_file(path, overwrite=True) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    folder = made_by_dgex(tmp_path / "model")
    with pytest.raises(UsageError, match="is a folder"), whole_file(folder):
        pytest.fail("must not come here")
    assert names(folder) == ["model", "run.toml"]


def test_a_body_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize("directory", [True, False])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, directory: bool) -> None:
    (tmp_path / "file").write_text("")
    maker = whole_directory if directory else whole_file
    with (
        pytest.raises(UsageError, match=r"file is a file, so .*/file/a/b cannot be made"),
        maker(tmp_path / "file" / "a" / "b"),
    ):
        pytest.fail("must not come here")


@pytest.mark.parametrize("path", [".", "/", "..", "runs/.."])
@pytest.mark.parametrize("maker", [whole_directory, whole_file])
def test_a_name_that_is_no_name_is_refused(
    path: str, maker: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match="no name"), maker(Path(path), overwrite=True):  # type: ignore[operator]
        pytest.fail("must not come here")


def test_a_folder_has_its_name_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model"
    with whole_directory(path) as folder:
        (folder / "a").write_text("a")
        assert not path.exists()
    assert names(tmp_path / "new") == ["model", "model/a"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_failed_folder_leaves_nothing_and_the_old_one_stays(
    tmp_path: Path, error: BaseException
) -> None:
    path = made_by_dgex(tmp_path / "model")
    with pytest.raises(type(error)), whole_directory(path, overwrite=True) as folder:  # noqa: PT012
        (folder / "model").write_text("half")
        raise error
    assert (path / "model").read_text() == "old"
    assert names(tmp_path) == ["model", "model/model", "model/run.toml"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = made_by_dgex(tmp_path / "model")
    with whole_directory(path, overwrite=True) as folder:
        (folder / "other").write_text("new")
        assert (path / "model").read_text() == "old"
    assert names(tmp_path) == ["model", "model/other"]


def test_a_folder_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    path = made_by_dgex(tmp_path / "model")
    with pytest.raises(UsageError, match="exists already"), whole_directory(path):
        pytest.fail("must not come here")


def test_a_folder_of_someone_else_is_never_deleted(tmp_path: Path) -> None:
    """`--out ~ --overwrite` must not cost anyone their home."""
    (tmp_path / "thesis.doc").write_text("years")
    with (
        pytest.raises(UsageError, match=r"did not make whole.*remove it first"),
        whole_directory(tmp_path, overwrite=True),
    ):
        pytest.fail("must not come here")
    assert names(tmp_path) == ["thesis.doc"]


def test_an_empty_folder_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with whole_directory(tmp_path / "empty", overwrite=True) as folder:
        (folder / "a").write_text("a")
    assert names(tmp_path) == ["empty", "empty/a"]


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path: Path) -> None:
    made_by_dgex(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    with whole_directory(tmp_path / "link", overwrite=True) as folder:
        (folder / "a").write_text("a")
    assert names(tmp_path) == ["link", "link/a", "real", "real/model", "real/run.toml"]
    assert not (tmp_path / "link").is_symlink()


def test_the_old_folder_comes_back_when_the_new_cannot_be_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made_by_dgex(tmp_path / "model")
    rename = os.replace

    def fail_for_the_new(source: Path, target: Path) -> None:
        if str(source).endswith(".partial"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", fail_for_the_new)
    with (
        pytest.raises(OSError, match="Input/output"),
        whole_directory(path, overwrite=True) as folder,
    ):
        (folder / "a").write_text("a")
    assert names(tmp_path) == ["model", "model/model", "model/run.toml"]


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    partial = partial_path(tmp_path / "model")
    partial.mkdir()
    (partial / "stale").write_text("stale")
    with whole_directory(tmp_path / "model") as folder:
        (folder / "a").write_text("a")
    assert names(tmp_path) == ["model", "model/a"]


def test_a_partial_folder_can_be_kept_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt), whole_directory(path, keep_partial=True) as folder:  # noqa: PT012
        (folder / "checkpoint").write_text("epoch 3")
        raise KeyboardInterrupt
    assert not path.exists()
    with whole_directory(path, keep_partial=True) as folder:
        assert (folder / "checkpoint").read_text() == "epoch 3"
    assert names(tmp_path) == ["model", "model/checkpoint"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_full_disk_is_one_line_that_names_the_output(
    tmp_path: Path, code: int, hidden: bool
) -> None:
    """HDF5 gives the system's error only inside its message."""
    text = os.strerror(code)
    error = OSError(f"Can't write data (errno = {code}, error message = '{text}')")
    with (  # noqa: PT012
        pytest.raises(DataError, match="The disk is full") as caught,
        whole_directory(tmp_path / "out") as folder,
    ):
        (folder / "a").write_text("a")
        raise error if hidden else OSError(code, text)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "out") in str(caught.value)
    assert names(tmp_path) == []


def test_a_full_disk_is_told_whatever_the_library_calls_it(tmp_path: Path) -> None:
    """safetensors has an error of its own, with the system's inside its message."""
    with pytest.raises(DataError, match="The disk is full"), whole_directory(tmp_path / "out"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="other"), whole_directory(tmp_path / "out"):
        raise RuntimeError("other")


def test_other_system_errors_are_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "absent").read_text()


def test_a_forbidden_output_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"No permission: .*model") as caught,
        whole_directory(tmp_path / "model"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "model"))
    assert "\n" not in str(caught.value)


def test_a_forbidden_input_is_not_called_a_forbidden_output(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"No permission: /secret/gtex\.gctx"),
        whole_directory(tmp_path / "model"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "/secret/gtex.gctx")


def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Read-only file system"), whole_file(tmp_path / "a"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path))


@pytest.mark.parametrize("maker", [whole_file, whole_directory])
def test_a_name_too_long_is_one_line(tmp_path: Path, maker: object) -> None:
    with pytest.raises(DataError, match="too long"), maker(tmp_path / ("n" * 300)):  # type: ignore[operator]
        pytest.fail("must not come here")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder without new files")
@pytest.mark.parametrize("maker", [whole_file, whole_directory])
def test_a_folder_that_takes_no_new_file_is_one_line(maker: object) -> None:
    for path in ("/proc/x", "/proc/new/deep/x"):
        with pytest.raises(DataError, match=f"{path} cannot be made.*another place") as caught:
            refuse_unwritable(Path(path))
        assert "\n" not in str(caught.value)
        with pytest.raises(DataError, match=f"{path} cannot be made"), maker(Path(path)):  # type: ignore[operator]
            pytest.fail("must not come here")


def test_a_check_of_the_place_leaves_nothing(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "new" / "deep" / "a")
    refuse_folder(tmp_path / "a")
    with pytest.raises(UsageError, match="is a folder; a file cannot"):
        refuse_folder(tmp_path)
    assert free_bytes(tmp_path / "new" / "a") == pytest.approx(
        shutil.disk_usage(tmp_path).free, abs=10 * 2**30
    )
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_gives_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataError, match="No permission"), whole_file(tmp_path / "a") as partial:
            partial.write_text("a")
    finally:
        tmp_path.chmod(0o700)


def run_with_little_room(code: str, room: int) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose files cannot grow beyond `room` bytes: a real EFBIG."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_disk_that_really_ends_leaves_nothing(tmp_path: Path) -> None:
    made_by_dgex(tmp_path / "model")
    done = run_with_little_room(
        f"""
        from pathlib import Path
        from dgex.errors import DataError
        from dgex.files import whole_directory
        try:
            with whole_directory(Path({str(tmp_path / "model")!r}), overwrite=True) as folder:
                (folder / "small").write_bytes(bytes(10))
                (folder / "large").write_bytes(bytes(100_000))
        except DataError as error:
            print(error)
        """,
        room=50_000,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("The disk is full: ")
    assert done.stdout.count("\n") == 1
    assert names(tmp_path) == ["model", "model/model", "model/run.toml"]


def test_refuse_existing_says_nothing_where_all_is_well(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new" / "deep", overwrite=False)
    (tmp_path / "old").write_text("")
    refuse_existing(tmp_path / "old", overwrite=True)
    assert names(tmp_path) == ["old"]


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    folder = made_by_dgex(tmp_path / "runs")
    refuse_existing(tmp_path / "new", overwrite=True, inputs=[folder, None, "absent"])
    (tmp_path / "link").symlink_to(folder / "model")
    for out, source in [
        (folder, folder),
        (folder, folder / "model"),
        (folder, str(tmp_path / "runs" / ".." / "runs" / "model")),
        (tmp_path / "link", folder / "model"),
        (folder / "model", tmp_path / "link"),
    ]:
        with pytest.raises(UsageError, match="is to be read"):
            refuse_existing(out, overwrite=True, inputs=[source])
    refuse_existing(tmp_path / "run", overwrite=True, inputs=[folder])
    refuse_existing(folder / "inner", overwrite=True, inputs=[folder])


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(UsageError, match="is a file"),
        whole_directory(tmp_path / "notes.txt", overwrite=True),
    ):
        pytest.fail("must not come here")
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("maker", [whole_file, whole_directory])
def test_what_another_process_writes_is_left_to_it(tmp_path: Path, maker: object) -> None:
    path = tmp_path / "out"
    code = f"""
        from pathlib import Path
        from dgex.files import {maker.__name__}
        with {maker.__name__}(Path({str(path)!r})) as partial:
            content = partial if {maker is whole_file} else partial / "a"
            content.write_text("first")
            print("begun", flush=True)
            input()
        """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "begun\n"
    with pytest.raises(UsageError, match="written by another dgex"), maker(path, overwrite=True):  # type: ignore[operator]
        pytest.fail("must not come here")
    other.communicate("go on\n")
    assert other.returncode == 0
    content = path if maker is whole_file else path / "a"
    assert content.read_text() == "first"
    assert names(tmp_path) == [p for p in ("out", "out/a") if (tmp_path / p).exists()]


def test_the_lock_of_a_killed_process_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.partial.lock").touch()
    with whole_file(tmp_path / "a") as partial:
        partial.write_text("a")
    assert names(tmp_path) == ["a"]


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_toml_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {
        "seed": 3,
        "fractions": (0.8, 0.1, 0.1),
        "obs": Path("a b/ü.tsv"),
        "none": None,
        "inner": {"text": 'quote " \\ \n newline', "flags": [True, False], "none": None},
    }
    write_toml(tmp_path / "run.toml", content)
    assert read_toml(tmp_path / "run.toml") == {
        "seed": 3,
        "fractions": [0.8, 0.1, 0.1],
        "obs": "a b/ü.tsv",
        "inner": {"text": 'quote " \\ \n newline', "flags": [True, False]},
    }


def test_toml_takes_numbers_of_numpy(tmp_path: Path) -> None:
    """A seed out of an array must not end an hour's work with a traceback."""
    write_toml(tmp_path / "a.toml", {"seed": np.int64(3), "below": np.float32(0.5)})
    assert read_toml(tmp_path / "a.toml") == {"seed": 3, "below": 0.5}


@pytest.mark.parametrize("content", [b"a = ", b"= 1", b"\xff\xfe", b"a = 1\na = 2"])
def test_what_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.toml is not valid TOML"):
        read_toml(tmp_path / "a.toml")


def test_json_is_readable_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Größe"})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "name": "Größe"\n}\n'


def test_json_that_cannot_be_written_keeps_the_old(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": {1, 2}})
    assert names(tmp_path) == ["a.json"]
    assert "old" in (tmp_path / "a.json").read_text()
