"""Scripts of experiments/speed and experiments/speedrun, on as little as it takes: that they run, not how fast."""

from __future__ import annotations

import contextlib
import runpy
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SCRIPTS = {path.stem: path for folder in ("speed", "speedrun") for path in (EXPERIMENTS / folder).glob("*.py")}
IMAGES = "data=synthetic data.test_size=20 data.train_size="
TINY = {
    "loop": f"--rounds 2 --steps 50 {IMAGES}300 seed=1",
    "recording": f"--rounds 1 --steps 1000 {IMAGES}1200 batch_size=1",
    "sweep": "--rounds 1 --jobs 2 --processes 1 --epochs 1",
    "environment waiting": f"--rounds 1 --seconds 0.1 --turns 10000 {IMAGES}900",
    "environment memory": f"--rounds 1 --seconds 0.1 --first 10 {IMAGES}900",
    "compare": "--sweeps 2 --jobs 2 --rounds 1",
    "measure": f"--recipes speedrun_55 --seeds 1 --script-epochs 1 --curves --figure FIGURE {IMAGES}600",
    "peers": "--rounds 1 --cases net-128 --train 512 --ways tutorial-2,tensors-float32,blitz --figure FIGURE",
    "start": "--rounds 1",
    "growth": "--rounds 1 --images 1000,2000 --steps 500 --figure FIGURE",
    "side_by_side": "--rounds 1 --jobs 2 --epochs 1",
    "stacked": "--rounds 1 --steps 2 --models 2 --batches 4",
}
PRINTED = {
    "loop": "losses: the same bits in all 100 steps",
    "recording": "thread: ",
    "sweep": "round 1: 2 of 2 jobs whole in the store",
    "environment waiting": "beside 0 busy processes, 1 rounds; the same losses on two threads",
    "environment memory": "huge pages, kept: ",
    "compare": "the same, each job by itself: ",
    "measure": "- speedrun_55: 1/",
    "peers": "times tensors-float32 (promised: 0.97; ",
    "start": "| `blitz --cfg job` | ",
    "growth": "500 steps, every loss recorded",
    "side_by_side": "| as it comes | ",
    "stacked": "| 4 | 1 | ",
}
QUICK = {"loop"}


def test_speed_scripts_are_all_run() -> None:
    assert set(SCRIPTS) == {script.split()[0] for script in TINY}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")  # of PyTorch's compiler
@pytest.mark.parametrize(
    "script", [script if script in QUICK else pytest.param(script, marks=pytest.mark.slow) for script in TINY]
)
def test_speed_script_runs(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "figure.png"
    name, *first = script.split()
    monkeypatch.setattr(sys, "argv", [name, *first, *TINY[script].replace("FIGURE", str(figure)).split()])
    # PyTorch takes code from its cache that was compiled for other vectors than ATEN_CPU_CAPABILITY allows.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    with contextlib.suppress(SystemExit):  # a promise of speed that was broken: no test asserts one
        runpy.run_path(str(SCRIPTS[name]), run_name="__main__")
    assert PRINTED[script] in capsys.readouterr().out
    assert figure.exists() == ("FIGURE" in TINY[script])
