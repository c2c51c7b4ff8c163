import contextlib
import importlib
import json
import pkgutil

import pytest
import torch

import benchmarks
from benchmarks import goals, prediction, rescaling
from benchmarks.attention import main, query_spread
from benchmarks.measure import Measurement, Ratio, write_rows
from cleftnet.models.checkpoint import Model, ModelCard, save_model
from cleftnet.nets.zoo import build
from tools.check_results import PAGE, measured_rows, published_rows

NAMES = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in ("__main__", "measure")]


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_says_in_one_line_what_it_compares_and_answers_help(name, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as done:
        module.main(["--help"])
    assert done.value.code == 0
    assert module.__doc__.splitlines()[0].split()[0] in capsys.readouterr().out


def test_rows_are_added_to_those_in_the_file_and_replace_those_of_their_name(tmp_path):
    path = tmp_path / "new" / "rows.json"
    write_rows(path, [{"name": "a", "speed": 1}, {"name": "b", "speed": 2}])
    write_rows(path, [{"name": "b", "speed": 3}])
    assert json.loads(path.read_text()) == {"rows": [{"name": "a", "speed": 1}, {"name": "b", "speed": 3}]}


def test_without_a_file_no_rows_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(None, [{"name": "a"}])
    assert list(tmp_path.iterdir()) == []


def test_rows_of_overlap_and_of_rescaling_are_named_as_on_the_page(model, cremi_file, tmp_path):
    net = tmp_path / "net.safetensors"
    save_model(net, model)
    given = ["--model", str(net), "--volume", str(cremi_file), "--roi", "0:16,0:96,0:96"]
    prediction.main(["overlap", *given, "--overlaps", "0", "0.5", "--json", str(tmp_path / "overlap.json")])
    rescaling.main(["40,4,4", "50,8,8", *given, "--overlap", "0", "--json", str(tmp_path / "rescaling.json")])
    pages = {"overlap": "Tiles that overlap", "rescaling": "Voxels of another size"}
    for name, heading in pages.items():
        page = published_rows(PAGE.read_text(), heading)
        measured = measured_rows(tmp_path / f"{name}.json", "rows", "name")
        known = {one: one.removesuffix(", the default") for one in page}
        found = {one: scores for one, scores in page.items() if known[one] in measured}
        assert len(found) >= 2
        assert all(scores.keys() <= measured[known[one]].keys() for one, scores in found.items())


def test_a_ratio_is_two_rows_the_other_way_first():
    ratio = Ratio("prediction", "a peer", Measurement(1, 2.0, 30), Measurement(1, 8.0, 40))
    assert ratio.rows("peer", "ours") == [
        {"name": "peer", "speed": 1.0, "memory": 1.0},
        {"name": "ours", "speed": 4.0, "memory": 0.75},
    ]


def network(name="cleftnet"):
    return build(name, widths=(2, 4), patch=(2, 8, 8))


def test_the_spread_of_queries_is_their_mean_distance_from_their_mean():
    """Half the queries are (3, 4, 0, 0), half (3, -4, 0, 0): the mean (3, 0, 0, 0) has norm 3, each is 4 away from it."""
    net = network()
    query = torch.zeros(4, 1, 4, 4)
    query[0], query[1, 0, :2], query[1, 0, 2:] = 3, 4, -4
    net.bottom.query.data = query
    found = {row.augmentor: row for row in query_spread(net)}
    assert list(found) == ["downs.0", "bottom", "ups.0"]
    assert found["bottom"] == ("bottom", 16, 3, 4)


def test_the_spread_of_a_model_is_printed_as_a_table(tmp_path, capsys):
    net = network()
    net.bottom.query.data.fill_(1)
    save_model(tmp_path / "net.safetensors", Model(net, ModelCard(spec=net.spec)))
    main(["spread", "--model", str(tmp_path / "net.safetensors")])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("bottom"))
    assert row.split() == ["bottom", "16", "2.0000", "0.0000", "0.00"]


def test_a_model_without_augmentors_has_no_spread(tmp_path, capsys):
    net = network("resunet")
    save_model(tmp_path / "net.safetensors", Model(net, ModelCard(spec=net.spec)))
    main(["spread", "--model", str(tmp_path / "net.safetensors")])
    assert "it has no feature augmentor" in capsys.readouterr().out


def test_goals_compare_with_plain_ways_to_the_same_result(capsys):
    goals.main(["cremi", "evaluate", "synapses", "--small"])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split(", against ")[0] for line in lines] == ["CREMI score", "evaluate, all scores", "2 synapses"]
    assert all("the same result; goal" in line for line in lines)


@pytest.mark.parametrize(
    ("speed", "memory", "same", "end"),
    [(2.0, 0.5, True, "reached"), (1.9, 0.5, True, "MISSED"), (2.0, 0.6, True, "MISSED"), (2.0, 0.5, False, "MISSED")],
)
def test_a_goal_is_reached_by_speed_memory_and_the_same_result(monkeypatch, capsys, speed, memory, same, end):
    ratio = Ratio("work", "others", Measurement(1, 1.0, int(memory * 100)), Measurement(1, speed, 100), same)
    monkeypatch.setattr(goals, "GOALS", {"work": goals.Goal(lambda small: ratio, 2, 0.5)})
    with pytest.raises(SystemExit) if end == "MISSED" else contextlib.nullcontext():
        goals.main(["work"])
    assert capsys.readouterr().out.rstrip().endswith(f"of the memory: {end}")
