import pickle

import pytest
from pydantic import Field, model_validator

from cleftnet.errors import InputError
from cleftnet.settings import Settings, SettingsError


class InnerSettings(Settings):
    steps: int = Field(ge=1)
    rate: float = 1.0

    @model_validator(mode="after")
    def _differ(self):
        if self.rate == self.steps:
            raise ValueError("rate and steps agree")
        return self


class OuterSettings(Settings):
    inner: InnerSettings
    several: tuple[InnerSettings, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"stepz": 3}}, "unknown key 'inner.stepz'; did you mean 'steps'?"),
        ({"iner": {"steps": 3}}, "unknown key 'iner'; did you mean 'inner'?"),
        ({"inner": {"steps": 0}}, "inner.steps: Input should be greater than or equal to 1 (given: 0)"),
        ({"inner": {"steps": 2, "rate": 2}}, "inner: rate and steps agree"),
        (
            {"inner": {"steps": 2}, "several": [{"steps": 2}, {"steps": "x"}]},
            "several.1.steps: Input should be a valid",
        ),
        ({}, "inner: Field required"),
    ],
)
def test_an_error_is_one_line_that_names_the_dotted_key(values, message):
    with pytest.raises(InputError) as raised:
        OuterSettings(**values)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_settings_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(SettingsError("a.b", "did you mean 'c'?", unknown=True)))
    assert str(error) == "unknown key 'a.b'; did you mean 'c'?"
