import json

import pytest
import safetensors.torch
import torch

from cleftnet.errors import InputError
from cleftnet.metrics.calibration import Calibration
from cleftnet.models import checkpoint
from cleftnet.models.checkpoint import (
    BEST,
    LAST,
    Model,
    ModelCard,
    find_model,
    load_card,
    load_model,
    save_model,
    store_operating_point,
)
from cleftnet.models.operating_point import ObjectClassifier, OperatingPoint
from cleftnet.nets.skeleton import Network
from cleftnet.prediction import predict
from cleftnet.synapses import find_synapses
from cleftnet.volumes import open_volume


def test_a_saved_model_loads_with_the_same_weights_card_and_output(model, tmp_path):
    card = model.card.model_copy(update={"calibration": Calibration(0.5, -2.0), "step": 7, "provenance": {"seed": 3}})
    save_model(tmp_path / "m.safetensors", Model(model.net, card))
    loaded = load_model(tmp_path / "m.safetensors")
    x = torch.rand(1, 1, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.net(x), model.net(x))
    assert loaded.card == card


def test_the_card_can_be_read_without_cleftnet(model, tmp_path):
    save_model(tmp_path / "m.safetensors", model)
    with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert json.loads(file.metadata()["cleftnet"])["threshold"] == 0.25


def test_a_run_directory_means_its_best_checkpoint(model, tmp_path):
    for name in (LAST, BEST):
        save_model(tmp_path / name, model)
    assert find_model(tmp_path).name == BEST


def test_a_run_directory_without_a_best_checkpoint_gives_its_last(model, tmp_path):
    save_model(tmp_path / LAST, model)
    assert find_model(tmp_path).name == LAST


def test_a_folder_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no best\.safetensors"):
        load_model(tmp_path)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no model at"):
        load_model(tmp_path / "nothing")


def test_a_file_that_is_no_safetensors_is_refused_and_never_unpickled(tmp_path):
    torch.save({"a": 1}, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_model(tmp_path / "m.safetensors")


def test_weights_without_a_card_are_refused(tmp_path):
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="without a cleftnet card"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("voxel_size_nm", [0, 4, 4], "three lengths z y x in nm above 0"),
        ("voxel_size_nm", [40, -4, 4], "three lengths z y x in nm above 0"),
        ("voxel_size_nm", [40, 4, float("inf")], "three lengths z y x in nm above 0"),
        ("members", 10**9, "members: .* less than or equal to 1000"),
        ("spec", {"tissue_classes": 2**70}, "tissue_classes: .* less than or equal to 256"),
    ],
)
def test_a_card_with_an_impossible_value_is_refused(model, tmp_path, key, value, message):
    card = json.loads(model.card.model_dump_json())
    card[key] = card[key] | value if isinstance(value, dict) else value
    weights = {name: tensor.contiguous() for name, tensor in model.net.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "m.safetensors", {"cleftnet": json.dumps(card)})
    with pytest.raises(InputError, match=message):
        load_model(tmp_path / "m.safetensors")


def test_weights_that_do_not_fit_their_card_are_refused(model, tmp_path):
    wrong = ModelCard(spec=model.card.spec.model_copy(update={"widths": (4, 16)}))
    safetensors.torch.save_file(
        {k: v.contiguous() for k, v in model.net.state_dict().items()},
        tmp_path / "m.safetensors",
        {"cleftnet": wrong.model_dump_json()},
    )
    with pytest.raises(InputError, match="do not fit"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("change", [{"widths": (4, 2**20)}, {"widths": (4, 2**70)}, {"patch": (2**20, 2**20, 2**20)}])
def test_a_card_of_a_huge_network_is_refused_before_memory_is_taken(model, tmp_path, monkeypatch, change):
    def build(spec):
        assert torch.get_default_device().type == "meta"
        return Network(spec)

    monkeypatch.setattr(checkpoint, "Network", build)
    save_model(tmp_path / "m.safetensors", Model(model.net, ModelCard(spec=model.card.spec.model_copy(update=change))))
    with pytest.raises(InputError, match=r"do not fit .*\((?:\S+ is \[[0-9, ]*\] by the card and|.*[Oo]verflow)"):
        load_model(tmp_path / "m.safetensors")


def test_probability_is_the_calibrated_sigmoid_of_the_first_logit(model):
    """sigmoid(0.5 · 4 − 2) = sigmoid(0) = 0.5."""
    calibrated = Model(model.net, model.card.model_copy(update={"calibration": Calibration(0.5, 2.0)}))
    logits = torch.tensor([4.0, 0.0]).view(2, 1, 1, 1).numpy()
    assert calibrated.probability(logits).item() == 0.5


def test_distance_is_the_tanh_of_the_second_logit_and_never_negative(model):
    logits = torch.tensor([[0.0, 0.0], [1.0, -1.0]]).view(2, 1, 1, 2).numpy()
    assert model.distance(logits).ravel().tolist() == pytest.approx([0.7616, 0.0], abs=1e-4)


def test_a_model_without_boundary_head_has_no_distance(model):
    assert model.distance(torch.zeros(1, 1, 1, 1).numpy()) is None


POINT = OperatingPoint(
    threshold=0.1 + 0.2,
    gap=1,
    min_size_nm3=5e4,
    min_score=1 / 3,
    classifiers=(
        ObjectClassifier(
            features=("log_volume", "darkness"),
            center=(5.1, 1e-17),
            scale=(1 / 7, 2.0),
            weight=(0.3, -4.5),
            intercept=-0.1,
        ),
    ),
)


@pytest.mark.parametrize("half", [False, True])
def test_an_operating_point_stored_in_a_checkpoint_comes_back_exactly_and_changes_no_weight(model, tmp_path, half):
    path = tmp_path / "m.safetensors"
    save_model(path, model, half=half)
    before = safetensors.torch.load_file(path)
    assert store_operating_point(path, POINT) == path
    assert load_card(path) == model.card.model_copy(update={"synapses": POINT})
    after = safetensors.torch.load_file(path)
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
    )


@pytest.mark.parametrize("out", [None, "p.hdf", "p.zarr"])
def test_a_prediction_carries_the_operating_point_and_the_address_of_raw(model, cremi_file, tmp_path, out):
    tuned = Model(model.net, model.card.model_copy(update={"synapses": POINT}))
    found = predict(tuned, cremi_file, None if out is None else tmp_path / out)
    assert OperatingPoint.model_validate(found.provenance["synapses"]) == POINT
    assert found.provenance["raw"] == f"{cremi_file}/volumes/raw"
    used = find_synapses(found).used
    assert (used.point, used.origin) == (POINT, "stored with the prediction")
    assert open_volume(found.provenance["raw"]).shape == found.shape


def test_a_prediction_of_an_array_by_a_model_without_an_operating_point_carries_nothing(model, synthetic):
    found = predict(model, synthetic.raw.read(), voxel_size_nm=(40, 4, 4))
    assert "synapses" not in found.provenance
    assert find_synapses(found).used.origin == "default"


def test_a_damaged_classifier_in_a_checkpoint_is_refused_in_one_line(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, model)
    store_operating_point(path, POINT)
    with safetensors.safe_open(path, "pt") as file:
        card = json.loads(file.metadata()["cleftnet"])
    card["synapses"]["classifiers"][0]["weight"] = [1.0]
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {"cleftnet": json.dumps(card)})
    with pytest.raises(InputError, match=r"synapses.*2 features, 2 centers, 2 scales and 1 weights") as raised:
        load_model(path)
    assert "\n" not in str(raised.value)


def test_a_released_model_stays_as_it_is():
    with pytest.raises(InputError, match="'vnc-l3' is a released model, which stays as it is"):
        store_operating_point("vnc-l3", POINT)
