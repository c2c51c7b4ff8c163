"""Files for releasing: what can be checked of them without running them elsewhere."""

import json
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch", "dask[distributed]": "dask"}


def test_every_action_is_pinned_by_the_hash_of_a_commit():
    uses = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert uses
    assert not [line for line in uses if not re.search(r"uses: [\w./-]+@[0-9a-f]{40}  # v[\d.]+$", line)]


def test_workflows_are_yaml_and_only_publishing_has_more_than_read_permission():
    jobs = {}
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        jobs |= workflow["jobs"]
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


def test_the_form_for_bugs_requires_the_output_of_doctor():
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    fields = {field["id"]: field for field in form["body"]}
    assert "cleftnet doctor --json" in fields["doctor"]["attributes"]["label"]
    assert fields["doctor"]["validations"]["required"]


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    recipe = (ROOT / "packaging/conda/meta.yaml").read_text()
    run = re.split(r"^  run:\n", recipe, flags=re.M)[1].split("\n\n")[0]
    listed = set(re.findall(r"^    - (\S+ >=\S+)$", run, flags=re.M))
    wanted = {
        re.sub(r"^(.+?)>=", lambda m: f"{CONDA_NAMES.get(m[1], m[1])} >=", text) for text in PROJECT["dependencies"]
    }
    assert wanted | {"python >=3.11"} == {text for text in listed if not text.startswith("distributed ")}


def test_zenodo_names_license_and_paper():
    record = json.loads((ROOT / ".zenodo.json").read_text())
    assert record["license"] == "MIT"
    assert "CC BY-NC-SA 3.0" in record["description"]
    assert "10.1109/TMI.2021.3089547" in [related["identifier"] for related in record["related_identifiers"]]
