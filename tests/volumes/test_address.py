from pathlib import Path

import pytest

from cleftnet.errors import InputError
from cleftnet.volumes import data_folder, expand, open_volume
from cleftnet.volumes.address import kvstore


def test_public_volumes_lie_where_the_variable_says_or_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CLEFTNET_DATA", "/data")
    assert (expand("$CLEFTNET_DATA/a.hdf"), data_folder()) == ("/data/a.hdf", Path("/data"))
    monkeypatch.delenv("CLEFTNET_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("${CLEFTNET_DATA}/a.hdf") == str(tmp_path / "cleftnet-data/a.hdf")


def test_the_message_about_a_public_volume_that_is_not_there_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("CLEFTNET_DATA", str(tmp_path / "data"))
    with pytest.raises(InputError, match=r"does not exist: .*cleftnet download vnc-l3"):
        open_volume("$CLEFTNET_DATA/vnc-l3/vnc-l3.hdf")


def test_an_s3_server_of_ones_own_is_taken_from_the_variables_that_amazons_tools_read(monkeypatch):
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert kvstore("s3://lab/fly.zarr") == "s3://lab/fly.zarr/"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/")
    assert kvstore("s3://lab/fly.zarr/raw") == {
        "driver": "s3",
        "bucket": "lab",
        "path": "fly.zarr/raw/",
        "endpoint": "http://127.0.0.1:9000",
        "aws_region": "us-east-1",
    }
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert kvstore("s3://lab")["aws_region"] == "eu-west-1"
    assert kvstore("s3://lab")["path"] == ""
    assert kvstore("gs://lab/fly.zarr") == "gs://lab/fly.zarr/"
