import pytest

from cleftnet.blockwise import Journal, Task
from cleftnet.errors import InputError

TASK = Task(settings={"model": "a", "tta": False}, block=(8, 64, 64))


def test_the_next_run_knows_the_recorded_blocks_and_no_others(tmp_path):
    with Journal(tmp_path / "j", TASK) as journal:
        journal.add(7)
        journal.add(0)
    with Journal(tmp_path / "j", TASK) as journal:
        assert [n for n in range(20) if n in journal] == [0, 7]
        assert len(journal) == 2


@pytest.mark.parametrize("tail", [b"12", b"\0\0\0", b"1x\n5\n"])
def test_a_line_cut_short_by_a_crash_is_ignored_and_does_not_damage_the_next(tmp_path, tail):
    with Journal(tmp_path / "j", TASK) as journal:
        journal.add(3)
    with (tmp_path / "j" / "blocks.txt").open("ab") as file:
        file.write(tail)
    with Journal(tmp_path / "j", TASK) as journal:
        journal.add(4)
    with Journal(tmp_path / "j", TASK) as journal:
        assert [n for n in range(200) if n in journal] == [3, 4]


def test_another_model_is_refused_by_name_and_the_journal_is_kept(tmp_path):
    with Journal(tmp_path / "j", TASK) as journal:
        journal.add(3)
    other = Task(settings={"model": "b", "tta": False}, block=(8, 64, 64))
    with pytest.raises(InputError, match='begun with model "a", not "b"'), Journal(tmp_path / "j", other):
        pass
    with Journal(tmp_path / "j", TASK) as journal:
        assert 3 in journal


def test_beginning_anew_discards_the_blocks_of_another_task_and_keeps_those_of_the_same(tmp_path):
    with Journal(tmp_path, TASK) as journal:
        journal.add(5)
    with Journal(tmp_path, TASK, anew=True) as journal:
        assert 5 in journal
    other = Task(settings={"model": "b"}, block=(16, 64, 64))
    with Journal(tmp_path, other, anew=True) as journal:
        assert (len(journal), journal.block) == (0, (16, 64, 64))


def test_a_later_run_uses_the_block_size_of_the_first(tmp_path):
    with Journal(tmp_path / "j", TASK):
        pass
    with Journal(tmp_path / "j", TASK.model_copy(update={"block": (16, 128, 128)})) as journal:
        assert journal.block == (8, 64, 64)


def test_two_runs_cannot_work_on_one_output_at_the_same_time(tmp_path):
    with (
        Journal(tmp_path, TASK),
        pytest.raises(InputError, match="another process is working"),
        Journal(tmp_path, TASK),
    ):
        pass
    with Journal(tmp_path, TASK):
        pass


def test_a_damaged_description_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(InputError, match="use overwrite=True to begin anew"), Journal(tmp_path, TASK):
        pass


def test_changed_voxels_of_an_input_are_refused_by_name_unless_they_are_accepted(tmp_path):
    def task(*checksums):
        return Task(settings={"model": "a"}, block=(8, 64, 64), inputs={"volume": checksums, "mask": (7,)})

    with Journal(tmp_path, task(1, None, 2)) as journal:
        journal.add(3)
    with Journal(tmp_path, task(1, 5, None)) as journal:  # what could not be read is not known to have changed
        assert 3 in journal
    with (
        pytest.raises(InputError, match=r"the voxels of the volume have changed .* or accept_changed_input=True"),
        Journal(tmp_path, task(1, None, 4)),
    ):
        pass
    with Journal(tmp_path, task(1, None, 4), accept_changed_input=True) as journal:
        assert 3 in journal
    with Journal(tmp_path, task(1, None, 4)) as journal:  # it has been accepted
        assert 3 in journal
    with Journal(tmp_path, task(1, None, 2), anew=True) as journal:
        assert len(journal) == 0
