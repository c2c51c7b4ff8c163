"""The library speaks of Python parameters, the command line of its options."""

import errno
import logging
import warnings

import pytest
import typer

from cleftnet.cli import app, main
from cleftnet.cli.translation import OPTIONS, to_options
from cleftnet.errors import InputError


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("a exists; use overwrite=True, or another name", "a exists; use --overwrite, or another name"),
        ("give it: voxel_size_nm=(50, 4.6, 4.6)", "give it: --voxel-size 50,4.6,4.6"),
        ("try block=(64, 512, 512).", "try --block 64,512,512."),
        ("use a smaller roi=...", "use a smaller --roi ..."),
        ("try roi=z0:z1,y0:y1,x0:x1, in voxels", "try --roi z0:z1,y0:y1,x0:x1, in voxels"),
        ("such as threshold=0.5; or kind='labels'", "such as --threshold 0.5; or --kind labels"),
        (
            "choose workers=4 or scheduler='tcp://10.0.0.1:8786'",
            "choose --workers 4 or --scheduler tcp://10.0.0.1:8786",
        ),
        ('try changes=["training.steps=100"]', "try --set training.steps=100"),
        ("leave it out, or pass samples=['A', 'B']", "leave it out, or pass --sample A,B"),
        ("(min_size_nm3=1000)", "(--min-size 1000)"),
        ("leave out rescale=False", "leave out --no-rescale"),
        ("predict with gray_range=(248, 28)", "predict with --gray-range 248,28"),
    ],
)
def test_parameters_become_options(message, said):
    assert to_options(message) == said


@pytest.mark.parametrize("message", ["training.seed=1 is a key of a recipe", "the threshold is 0.5", "a==b", "x=1"])
def test_other_text_stays(message):
    assert to_options(message) == message


def test_every_translated_option_exists():
    group = typer.main.get_command(app)
    known = {o for verb in group.commands.values() for parameter in verb.params for o in parameter.opts}
    assert {f"--{option}" for option in OPTIONS.values()} <= known


def stderr_of(capsys, verb, monkeypatch):
    """Run a verb that stands for any, and return what the program prints on stderr."""
    monkeypatch.setattr("cleftnet.volumes.describe", verb)
    with pytest.raises(SystemExit) as ended:
        main(["info", "a.hdf", "--json"])
    return ended.value.code, capsys.readouterr().err


def test_errors_are_translated(capsys, monkeypatch):
    def fail(*_, **__):
        raise InputError("a.tif has no voxel size; try voxel_size_nm=(40, 4, 4)")

    assert stderr_of(capsys, fail, monkeypatch) == (2, "error: a.tif has no voxel size; try --voxel-size 40,4,4\n")


def test_warnings_are_translated(capsys, monkeypatch):
    def warn(*_, **__):
        warnings.warn("lower it with threshold=0.2", stacklevel=1)
        return []

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert stderr_of(capsys, warn, monkeypatch) == (0, "warning: lower it with --threshold 0.2\n")


def test_log_messages_are_translated(capsys, monkeypatch):
    def log(*_, **__):
        logging.getLogger("cleftnet.volumes").info("step %d is saved; go on with resume=True", 3)
        return []

    assert stderr_of(capsys, log, monkeypatch) == (0, "step 3 is saved; go on with --resume\n")


def test_unfinished_work_is_exit_code_1(capsys, monkeypatch):
    from cleftnet.blockwise import UnfinishedError

    def fail(*_, **__):
        raise UnfinishedError("2 blocks failed; run again, or begin anew with overwrite=True")

    said = "error: 2 blocks failed; run again, or begin anew with --overwrite\n"
    assert stderr_of(capsys, fail, monkeypatch) == (1, said)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write"),
        (OSError(errno.EFBIG, "File too large", "a.csv"), "cannot write a.csv"),
    ],
)
def test_a_full_disk_is_one_line_even_without_the_name_of_a_file(capsys, monkeypatch, error, what):
    def fail(*_, **__):
        raise error

    advice = "free some space or choose another disk, and try again"
    assert stderr_of(capsys, fail, monkeypatch) == (2, f"error: {what} ({error.strerror}); {advice}\n")


@pytest.mark.parametrize("ending", ["", ".hdf", ".zarr", "/a.tif"])
def test_an_address_of_5000_characters_is_one_line(ending, capsys):
    with pytest.raises(SystemExit) as done:
        main(["info", "x" * 5000 + ending])
    assert done.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
