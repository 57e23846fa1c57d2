"""Credentials in addresses, overrides, files, the environment and git: printed and written nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import packages, processes
from support.cases import SMALL, Case, Forks, bad, everything, fine

import blitz

SECRET, SECOND = "hunter2-correct-horse", "b4ttery%staple+x"
LOGIN = f"user:{SECRET}@127.0.0.1:1"
TINY = f"{SMALL} model=mlp model.hidden=[]"
LOADS = {"printed": "downloading .*"}
KEY = {"SERVICE_API_KEY": SECRET}


def told(name: str, command: str, *words: str, **more: Any) -> Case:
    """A mistake whose message must not hold the secret."""
    return bad(name, command, *words, secrets=(SECRET,), **more)


def kept(name: str, command: str, *words: str, **more: Any) -> Case:
    """A run whose record must not hold the secret."""
    return fine(name, command, "test", *words, makes=r"here/(runs|mlflow\.db|mlartifacts).*", secrets=(SECRET,), **more)


TABLE = [
    # of a store
    *(
        told(f"store-{name}-{verb.split()[0]}", verb, "tracking.uri=", "***", environment={"MLFLOW_TRACKING_URI": uri})
        for verb in ("compare", "resume last epochs=3", "evaluate 0123", "reproduce 0123")
        for name, uri in (("server", f"http://{LOGIN}"), ("database", f"postgresql://{LOGIN}/x"))
    ),
    told("store-flag", f"compare --store http://{LOGIN}", "***"),
    told("store-flag-with-equals", f"compare --store=http://{LOGIN}", "***"),
    told("store-flag-of-sync", f"sync nope --store http://{LOGIN}", "nope: not the folder of a run"),
    told("store-flag-of-ui", f"ui --store http://{LOGIN}", "***"),
    told("store-without-password", f"compare --store http://{SECRET}@127.0.0.1:1", "***"),
    told("store-scheme-misspelled", f"compare --store htpp://{LOGIN}", "htpp"),
    told("store-port-text", f"compare --store http://user:{SECRET}@127.0.0.1:abc", "***"),
    told("store-in-a-query", f"compare --store 'postgresql://127.0.0.1:1/x?password={SECRET}'", "***"),
    told("store-in-an-encoded-query", f"compare --store 'mssql+pyodbc://?odbc_connect=PWD%3D{SECRET}'", "tracking.uri"),
    bad(
        "store-percent-encoded",
        "compare --store http://user:b4ttery%25staple%2Bx@127.0.0.1:1",
        "***",
        secrets=(SECOND, "b4ttery%25staple"),
    ),
    told("store-of-training", f"{TINY} tracking.uri=http://{LOGIN}", "tracking.uri=http://***@127.0.0.1:1", store=True),
    told(
        "store-of-a-recipe",
        "--config-dir dir experiment=own",
        "***",
        store=True,
        files={"dir/experiment/own.yaml": f"# @package _global_\ntracking: {{uri: 'http://{LOGIN}'}}\n"},
    ),
    told(
        "store-of-an-interpolation",
        f"{TINY} 'tracking.uri=http://user:${{oc.env:SERVICE_API_KEY}}@127.0.0.1:1'",
        "***",
        store=True,
        environment=KEY,
    ),
    kept("store-that-is-away", f"{TINY} tracking.uri=http://{LOGIN} tracking.offline=allow", "***", store=True),
    # in a mistake
    told("value-of-the-environment", "'optimizer.lr=${oc.env:SERVICE_API_KEY}'", "optimizer.lr=***", environment=KEY),
    told("value-that-was-typed", f"optimizer.lr={SECRET}", "optimizer.lr=***", environment=KEY),
    told("choice-that-was-typed", f"optimizer={SECRET}", "optimizer=***", environment=KEY),
    told("key-that-was-typed", f"{SECRET}=1", "***", environment=KEY),
    told("unreadable-that-was-typed", f"[{SECRET}", "***", environment=KEY),
    told("verb-that-was-typed", SECRET, "***", environment=KEY),
    told("run-that-was-typed", f"resume runs/{SECRET}", "runs/***: no folder of a run", environment=KEY),
    told("folder-that-was-typed", f"--config-dir {SECRET}", "--config-dir=***", environment=KEY),
    told("unknown-key", f"api_key={SECRET}", "api_key: no such key of a config"),
    told("unknown-option", f"+tracking.password={SECRET}", "tracking.password: no such option"),
    told("unknown-flag", f"--password={SECRET}", "--password"),
    told("flag-of-another-program", f"--token {SECRET}", "--token"),
    told("weights-address", f"{TINY} model.weights=https://{LOGIN}/w.pt", "model.weights"),
    told(
        "data-address", f"data=cifar10 data.url=https://{LOGIN}/ model=mlp", "data.url=https://127.0.0.1:1/: ", **LOADS
    ),
    told(
        "data-address-with-a-signature",
        f"data=cifar10 'data.url=\"https://127.0.0.1:1/?sig={SECRET}\"' model=mlp",
        "data.url=https://127.0.0.1:1/: ",
        **LOADS,
    ),
    told("search-path", f"hydra.searchpath=[https://{LOGIN}/conf]", "hydra.searchpath"),
    told("points-name", f"-m {TINY} sweep.points={SECRET}.yaml", "***", environment=KEY),
    told(
        "points-value",
        f"-m {TINY} sweep.points=points.yaml",
        "seed=***",
        environment=KEY,
        files={"points.yaml": f"- {{seed: {SECRET}}}\n"},
    ),
    told(
        "points-cell",
        f"-m {TINY} sweep.points=points.csv",
        "line 2",
        environment=KEY,
        files={"points.csv": f"seed\n[{SECRET}\n"},
    ),
    told(
        "yaml-line",
        "--config-dir dir optimizer=own",
        "own.yaml",
        environment=KEY,
        files={"dir/optimizer/own.yaml": f"lr: [{SECRET}\nb: {{\n"},
    ),
    told("swept-value", f"-m optimizer.lr={SECRET},1 {TINY}", "optimizer.lr=***", environment=KEY),
    told("traceback", f"optimizer.lr={SECRET}", "optimizer.lr=***", jargon=("Traceback",), lines=1, environment=KEY),
    told(
        "recipe-value",
        "--config-dir dir experiment=own",
        "seed=***",
        environment=KEY,
        files={"dir/experiment/own.yaml": f"# @package _global_\nseed: {SECRET}\n"},
    ),
    told("spelled-in-percents", "compare --store http://127.0.0.1:1/hunter2%2Dcorrect%2Dhorse", "***", environment=KEY),
    # in a record
    kept("name", f"{TINY} name=run-{SECRET}", environment=KEY),
    kept("notes", f"{TINY} 'notes=\"the key is {SECRET}\"'", environment=KEY),
    kept("notes-that-say-so", f"{TINY} 'notes=\"password={SECRET}\"'"),
    kept("tag-that-says-so", f"{TINY} tags.hf_token={SECRET}"),
    kept("tag", f"{TINY} tags.a={SECRET}", environment=KEY),
    kept("tags-as-a-mapping", f"{TINY} 'tags={{api_key: {SECRET}}}'"),
    kept("address-in-a-tag", f"{TINY} tags.where=https://{LOGIN}"),
    kept("experiment", f"{TINY} tracking.experiment={SECRET}", environment=KEY),
    kept("unused-store", f"{TINY} tracking=none tracking.uri=http://{LOGIN}"),
    kept("interpolation", f"{TINY} 'notes=${{oc.env:SERVICE_API_KEY}}'", environment=KEY),
    kept("folder-of-runs", f"{TINY} runs_dir=runs", environment={**KEY, "OMP_NUM_THREADS": SECRET}),
    kept("environment-that-is-recorded", TINY, environment={**KEY, "CUDA_VISIBLE_DEVICES": f"token={SECRET}"}),
    kept(
        "recipe",
        f"--config-dir dir experiment=own {TINY}",
        environment=KEY,
        files={"dir/experiment/own.yaml": f"# @package _global_\nnotes: {SECRET}\ntags: {{password: {SECRET}}}\n"},
    ),
    kept(
        "in-a-store",
        f"{TINY} name={SECRET} 'notes=\"{SECRET}\"' tags.hf_token={SECRET} tags.a={SECRET}",
        store=True,
        environment=KEY,
    ),
    fine(
        "in-a-sweep",
        f"-m {TINY} tags.a={SECRET},x tags.hf_token={SECRET}",
        "***",
        makes="here/runs.*",
        secrets=(SECRET,),
        environment=KEY,
    ),
    fine(
        "in-a-sweeps-points",
        f"-m {TINY} sweep.points=points.yaml",
        makes="here/runs.*",
        secrets=(SECRET,),
        environment=KEY,
        files={"points.yaml": f"- {{tags.a: {SECRET}, seed: 1}}\n- {{tags.a: x, seed: 2}}\n"},
    ),
    fine("printed-jobs", f"-m {TINY} sweep.dry_run=true tags.a={SECRET},x", "***", secrets=(SECRET,), environment=KEY),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", TABLE, ids=str)
def test_secrets(case: Case, forks: Forks, tmp_path: Path) -> None:
    forks.check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("plain_git")
def test_secrets_in_the_repository_of_the_code(tmp_path: Path) -> None:
    code, here = tmp_path / "code", tmp_path / "here"
    source = Path(blitz.__file__).parents[1]
    for part in ("blitz", "conf", "hydra_plugins"):
        shutil.copytree(source / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
    here.mkdir()
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", f"with password={SECRET}"],
        ["checkout", "-qb", f"token={SECRET}"],
        ["remote", "add", "origin", f"https://user:{SECRET}@example.org/blitz.git"],
    ):
        subprocess.run(["git", *words], cwd=code, check=True)
    with (code / "blitz" / "errors.py").open("a") as file:
        file.write(f"# {SECRET}\n")
    (code / "blitz" / "mine.py").write_text(f"API_KEY = '{SECRET}'\n")
    (code / ".env").write_text(f"PASSWORD={SECRET}\n")
    given = [*TINY.split(), "tracking=none", f"tags.a={SECRET}"]
    ended = processes.finished(here, *given, PYTHONPATH=packages.path(code), **KEY)
    assert ended[0] == 0, ended
    written = everything(here)
    facts = next(text for name, text in written.items() if name.endswith("provenance.json"))
    assert b'"branch": "token=***"' in facts
    shown = [*map(str.encode, ended[1:]), *map(os.fsencode, written), *written.values()]
    assert not any(SECRET.encode() in text for text in shown)
