"""What a person sees of recorded runs in the MLflow UI that `blitz ui` starts, looked at in headless Chromium.

BLITZ_SCREENSHOTS=DIR keeps pictures of three pages, of runs of CIFAR-10 where BLITZ_CIFAR10=DIR is set as well.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run
from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from support import browser
from support.processes import PATIENCE, finished, start, wait_for
from support.recorded import runs, sweeps

from blitz.tracking.ui import ALWAYS

pytestmark = pytest.mark.browser
PICTURES = os.environ.get("BLITZ_SCREENSHOTS")
IMAGES = os.environ.get("BLITZ_CIFAR10") if PICTURES else None  # which take minutes, and are seen in the pictures alone
DATA = ["data=folder", f"data.root={IMAGES}", "data.limit=5000"] if IMAGES else []
COMMON = ["experiment=quickstart", *DATA, "epochs=5", "tracking.system_metrics=0.2"]
RATES = ("0.1", "0.01", "0.001")
LINK = "viewStateShareKey=blitz"


@dataclass
class Recorded:
    """Three runs of a sweep, the newest first, the sweep's own and another one; and the UI's link to them."""

    folder: Path
    link: str
    sweep: list[Run]
    parent: Run
    other: Run
    objective_is_beside_the_assistant: bool

    def page(self, run: Run) -> str:
        return re.sub(r"\?.*", f"/{run.info.run_id}", self.link)


def start_ui(folder: Path) -> tuple[subprocess.Popen[str], str]:
    ui = start(folder, "ui")
    return ui, wait_for(ui, LINK).split()[-1]


@pytest.fixture(scope="module")
def recorded(driver: WebDriver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("recorded")
    for command in (
        ["-m", f"optimizer.lr={','.join(RATES)}", *COMMON],
        ["optimizer=adamw", "optimizer.lr=0.001", *COMMON],
    ):
        code, _, errors = finished(folder, *command)
        assert code == 0, errors
    uri = f"sqlite:///{folder}/mlflow.db"
    other, *sweep = runs(uri)
    (parent,) = sweeps(uri)
    ui, link = start_ui(folder)
    browser.runs_table(driver, link, 5, shown=2)
    browser.seen(driver, browser.ASSISTANT)  # as on everybody's first visit
    beside = browser.is_uncovered(driver, "metrics.`objective`")
    browser.close_assistant(driver)
    yield Recorded(folder, link, sweep, parent, other, beside)
    ui.send_signal(signal.SIGINT)
    ui.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(autouse=True)
def _without_errors_on_the_console(driver: WebDriver) -> Iterator[None]:
    yield
    assert browser.problems(driver) == []


def keep(driver: WebDriver, name: str, height: int) -> None:
    """A picture of the top of the page without its menu, where pictures are asked for."""
    if PICTURES:
        path = Path(PICTURES) / name
        browser.seen(driver, "main").screenshot(str(path))
        with Image.open(path) as picture:
            top = picture.convert("RGB").crop((0, 0, picture.width, min(height, picture.height)))
        top.save(path, optimize=True)
        assert path.stat().st_size < 200_000  # bytes, for the README


def test_a_sweep_is_a_row_that_unfolds_to_jobs_with_what_differs(driver: WebDriver, recorded: Recorded) -> None:
    browser.runs_table(driver, recorded.link, 5, shown=2)
    what = "data=folder limit=5000 epochs=5 quickstart" if IMAGES else "epochs=5 quickstart"
    names = [f"lr={rate}" for rate in reversed(RATES)]  # a sweep's jobs are called by what differs
    folded = [f"optimizer=adamw lr=0.001 {what}", f"lr={','.join(RATES)}"]
    assert browser.row_names(driver) == folded
    browser.unfold(driver, 1, shown=5)
    assert browser.row_names(driver) == [*folded, *names]
    wanted = {"params.`optimizer.lr`", "params.`optimizer.name`", "metrics.`objective`"}
    browser.until(driver, lambda driver: wanted <= set(browser.columns(driver)), f"columns {wanted}")
    assert browser.columns(driver)[2] == "metrics.`objective`"  # behind name and time
    assert recorded.objective_is_beside_the_assistant
    params = [run.data.params for run in (*recorded.sweep, recorded.other)]
    same = {name for name, value in params[0].items() if all(others.get(name) == value for others in params)}
    assert {"epochs", "batch_size", "seed", "model.name"} <= same
    assert {f"params.`{name}`" for name in same - set(ALWAYS)} & set(browser.columns(driver)) == set()
    assert [browser.cell(driver, row, "params.`optimizer.lr`") for row in (2, 3, 4)] == list(reversed(RATES))
    cells = [float(browser.cell(driver, row, "metrics.`objective`")) for row in (1, 2, 3, 4)]
    accuracies = [run.data.metrics["objective"] for run in recorded.sweep]
    assert cells == pytest.approx([max(accuracies), *accuracies])
    keep(driver, "runs.png", 450)


def test_mlflows_own_table_which_comes_back_with_f5_has_no_parameter_and_no_metric(
    driver: WebDriver, recorded: Recorded
) -> None:
    browser.runs_table(driver, recorded.link, 5, shown=2)
    driver.refresh()
    browser.wait_for_rows(driver, 5, shown=2)
    browser.until(driver, lambda driver: "attributes.`Source`" in browser.columns(driver), "MLflow's columns")
    assert [name for name in browser.columns(driver) if name.startswith(("params.", "metrics."))] == []


def test_comparing_three_runs_shows_which_parameter_made_the_difference(driver: WebDriver, recorded: Recorded) -> None:
    browser.runs_table(driver, recorded.link, 5, shown=2)
    browser.unfold(driver, 1, shown=5)
    browser.compare(driver, [2, 3, 4])
    assert browser.plotted(driver, "Parameters") == ["optimizer.lr"]
    assert browser.plotted(driver, "Metrics") == ["objective"]
    keep(driver, "compare.png", 600)
    assert browser.parameter_rows(driver).keys() == recorded.sweep[0].data.params.keys()
    browser.show_differing_parameters(driver)
    rows = browser.parameter_rows(driver)
    assert rows.keys() == {"optimizer.lr"}
    assert sorted(rows["optimizer.lr"].text.split()[1:]) == sorted(RATES)
    assert browser.is_in_sight(driver, rows["optimizer.lr"])


def test_a_runs_note_says_what_it_was_and_how_to_repeat_it(driver: WebDriver, recorded: Recorded) -> None:
    run = recorded.sweep[-1]
    text, code = browser.note(driver, recorded.page(run))
    what = "net (62,006 parameters) on folder (5,000" if IMAGES else "net (61,706 parameters) on digits (1,298"
    assert f"{what} training images), sgd, 5 epochs of batches of 32, seed 0; cpu" in text
    assert f"{run.data.metrics['test/accuracy']:.2%} test accuracy with the weights of epoch" in text
    command = ["blitz", f"optimizer.lr={RATES[0]}", *COMMON, f"device.threads={run.data.params['device.threads']}"]
    assert [block.splitlines()[-1] for block in code] == [" ".join(command)]


def test_metrics_are_grouped_by_what_they_are_about(driver: WebDriver, recorded: Recorded) -> None:
    run = recorded.sweep[-1]
    groups = Counter(name.partition("/")[0] for name in run.data.metrics)
    assert groups.keys() == {"objective", "train", "val", "test", "time", "system"}
    system, objective = groups.pop("system"), groups.pop("objective")
    shown = browser.sections(driver, recorded.page(run), "model")
    assert {name: number for name, number in shown.items() if number} == {**groups, "Model metrics": objective}
    assert browser.sections(driver, recorded.page(run), "system") == {"System metrics": system}


def test_charts_of_the_runs_begin_with_the_objective_and_end_with_the_machine(
    driver: WebDriver, recorded: Recorded
) -> None:
    assert browser.chart_sections(driver, recorded.link) == [
        "Model metrics", "val", "train", "test", "time", "System metrics",
    ]  # fmt: skip


def test_a_search_finds_what_is_at_its_default(driver: WebDriver, recorded: Recorded) -> None:
    """The three runs of SGD by their momentum, and with them their sweep's; AdamW has none."""
    query = "params.`optimizer.momentum` = '0.9' and params.`data.mean` = 'null' and metrics.objective > 0"
    browser.runs_table(driver, recorded.link, 5, shown=2)
    browser.search(driver, query)
    browser.text(driver, "4 matching runs")


def test_system_metrics_are_curves(driver: WebDriver, recorded: Recorded) -> None:
    browser.sections(driver, recorded.page(recorded.sweep[-1]), "system")
    names = {"cpu_utilization_percentage", "disk_usage_megabytes"}  # in sight; others are drawn when scrolled to
    browser.until(driver, lambda driver: names <= set(browser.drawn_curves(driver)), f"curves of {names}")


def test_artifacts_show_the_curves(driver: WebDriver, recorded: Recorded) -> None:
    run = recorded.sweep[1]
    size = browser.open_figure(driver, recorded.page(run), "figures/curves.png")
    with Image.open(Path(run.data.tags["folder"]) / "figures" / "curves.png") as figure:
        assert size == figure.size
    for name in ("worst_mistakes.png", "config.yaml", "provenance.json", "run.log"):
        browser.text(driver, name)
    keep(driver, "artifacts.png", 550)


def test_a_sweeps_page_opens_among_its_artifacts_and_links_to_its_jobs(driver: WebDriver, recorded: Recorded) -> None:
    browser.visit(driver, f"{recorded.page(recorded.parent)}/artifacts/results.html?workflowType=machine_learning")
    driver.switch_to.frame(browser.seen(driver, "iframe.mlflow-html-iframe"))
    browser.seen(driver, ".chart .scatterlayer .trace")
    links = {link.get_attribute("href") or "" for link in driver.find_elements(By.CSS_SELECTOR, "a.run")}
    driver.switch_to.default_content()
    base = recorded.link.partition("/#")[0]
    assert links == {f"{base}/#/runs/{run.info.run_id}" for run in recorded.sweep}
    browser.visit(driver, f"{base}/#/runs/{recorded.sweep[-1].info.run_id}")
    browser.text(driver, str(recorded.sweep[-1].info.run_name))
    browser.text(driver, "test/accuracy")


def test_a_second_ui_takes_another_port_and_ctrl_c_leaves_nothing(recorded: Recorded) -> None:
    ui, link = start_ui(recorded.folder)
    servers = psutil.Process(ui.pid).children(recursive=True)
    try:
        assert link.partition("/#")[0] != recorded.link.partition("/#")[0]
        with urllib.request.urlopen(link, timeout=30) as page:  # at once: the line is printed when the page answers
            assert b"MLflow" in page.read()
        assert servers
    finally:
        ui.send_signal(signal.SIGINT)
        _, errors = ui.communicate(timeout=PATIENCE)
    assert ui.returncode == 0, errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(servers, timeout=PATIENCE)
    assert alive == []
