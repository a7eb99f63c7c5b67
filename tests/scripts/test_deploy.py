"""The examples for containers, as far as that goes without a container engine or a cluster."""

import re
import shlex
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "scripts" / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pod() -> tuple[dict, dict]:
    """What a pod is, and its only container."""
    found = yaml.safe_load((DEPLOY / "workers.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("batch/v1", "Job")
    spec = found["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def test_what_the_image_copies_and_installs_exists():
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]
    copied = [source for first, *words in lines if first == "COPY" for source in words[:-1]]
    assert copied and all((ROOT / source).exists() for source in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name in ("search", "wavemix")}
    assert packages | {PROJECT["readme"], "pyproject.toml"} <= set(copied)
    (extras,) = re.findall(r"'\.\[(.*)\]'", text)
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    assert lines[-1] == ["ENTRYPOINT", "[wavemix]"] and "wavemix" in PROJECT["scripts"]
    (torch,) = re.findall(r"ARG TORCH=(\S+)", text)
    assert torch in (ROOT / "scripts" / "bootstrap").read_text(), "the release that the scripts install"


def test_the_jobs_workers_are_those_of_the_manual():
    _, container = pod()
    command = shlex.join(["wavemix", *container["args"]]).replace("'$(storage)'", "postgresql+psycopg://…")
    assert command in (ROOT / "search" / "README.md").read_text()
    assert container["envFrom"] == [{"secretRef": {"name": "wavemix"}}], "no secret is in the file"


def test_a_worker_takes_the_jobs_arguments(wavemix, tmp_path):
    _, container = pod()
    url = f"sqlite:///{tmp_path}/none.db"
    error = wavemix(*(url if argument == "$(storage)" else argument for argument in container["args"]), code=2).err
    assert "there is no file" in error


def test_what_a_pod_mounts_is_what_the_image_makes():
    spec, container = pod()
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    text = (DEPLOY / "Dockerfile").read_text()
    assert set(mounts.values()) == {volume["name"] for volume in spec["volumes"]}
    assert f"install -d -o wavemix {' '.join(mounts)} " in text.replace("\n", " ")
    assert f"--uid {spec['securityContext']['runAsUser']} " in text
