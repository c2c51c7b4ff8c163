from cleftnet.volumes.address import kvstore


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
