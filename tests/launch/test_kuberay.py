"""The KubeRay job: its command is one that exists, and its containers share the volume."""

import shlex

import typer
import yaml

from smim import cli
from tests.training.conftest import ROOT


def test_the_job_runs_a_pipeline_with_options_that_exist() -> None:
    job = yaml.safe_load((ROOT / "launch/kuberay/pipeline.yaml").read_text())
    program, command, config, *options = shlex.split(job["spec"]["entrypoint"])
    known = typer.main.get_command(cli.app).commands[command].params  # type: ignore[attr-defined]
    assert program == "smim"
    assert {each for each in options if each.startswith("--")} <= {name for param in known for name in param.opts}
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        [mount], [volume] = container["volumeMounts"], pod["volumes"]
        assert mount["name"] == volume["name"] and config.startswith(f"{mount['mountPath']}/")
