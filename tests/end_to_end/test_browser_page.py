"""The page of a comparison in headless Chromium, from a file: it sorts, draws, fits, and loads nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from support import browser
from support.pages import comparison_page, decision, run

pytestmark = pytest.mark.browser
EVIL = "<script>document.title = 'attacked'</script><img src=x onerror=\"document.title = 'attacked'\">"
LRS = ("1.0", "0.3", "0.1", "0.03", "0.01")
OBJECTIVES = (0.35, 0.8, 0.88, 0.85, 0.62)
DRAWN = """const charts = [...document.querySelectorAll('.chart')];
    return charts.length > 0 && charts.every(chart => chart.querySelector('.main-svg'))"""
KINDS = "return [...document.querySelectorAll('.chart')].map(chart => chart.data.at(-1).type)"
FIRST_COLUMN = "return [...document.querySelector('tbody').rows].map(row => row.cells[0].innerText.trim())"
ORDERS = "return [...document.querySelector('tr').cells].map(cell => cell.getAttribute('aria-sort'))"
OUTSIDE = """return [...document.querySelectorAll('section, h1, p, details, footer, input')]
    .filter(it => it.getBoundingClientRect().right > innerWidth + 1).map(it => it.outerHTML.slice(0, 80))"""
BUTTONS = "return [...document.querySelectorAll('.modebar-btn')].map(button => button.dataset.title)"


def page_of_a_search() -> str:
    """Three seeds of five rates and two optimizers, of which a search paused those of the worst rate."""
    runs = []
    for lr, objective in zip(LRS, OBJECTIVES, strict=True):
        for name, by in (("sgd", 0.0), ("adamw", 0.03)):
            for seed in range(3):
                best = objective - by + 0.008 * ((seed * 7 + len(lr)) % 3)
                curve = [best - (best - 0.1) * 0.62**epoch for epoch in range(1, 13)]
                values = {"optimizer.lr": lr, "optimizer.name": name, "tags.note": EVIL if name == "sgd" else "-"}
                name_of_run = f"lr={lr} optimizer={name} seed={seed} {EVIL}"
                is_paused = lr == LRS[0]
                score, status = (None, "KILLED") if is_paused else (best, "FINISHED")
                runs.append(run(values, score, seed, curve=curve, name=name_of_run, status=status))
    made = []
    for number in range(len(runs)):
        going_on = number >= 6
        made.append(
            decision(1, number, "go on" if going_on else "pause", objective=0.2 + 0.01 * number, rung=1, note=EVIL)
        )
        if going_on:
            made.append(decision(2, number, "go on", objective=0.4 + 0.01 * number, rung=4, note=EVIL))
    return comparison_page(
        runs, metrics=["objective", "test/accuracy", "train/loss"], made=made, jobs=dict(enumerate(runs)),
        title=f"Sweep {EVIL}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def test_charts_are_what_plotly_draws() -> None:
    from plotly.graph_objects import Figure  # seconds

    data = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page_of_a_search())
    assert data is not None
    coloured = re.sub(r'color": ?"@\w+"', 'color":"red"', data[1].replace('"@scale"', '"Viridis"'))
    charts = json.loads(coloured).values()
    assert len(charts) == 4
    for chart in charts:
        Figure(chart["data"], chart["layout"])  # raises ValueError


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("page") / "results.html"
    file.write_text(page_of_a_search(), encoding="utf-8")
    return file.as_uri()


def open_page(driver: WebDriver, address: str, width: int, theme: str = "light") -> None:
    """Of this width, once each chart is drawn."""
    feature = {"name": "prefers-color-scheme", "value": theme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.visit(driver, address)
    browser.until(driver, lambda driver: driver.execute_script(DRAWN), "charts")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_draws_all_charts_and_loads_nothing(driver: WebDriver, address: str, width: int, theme: str) -> None:
    open_page(driver, address, width, theme)
    assert driver.execute_script(KINDS) == ["scatter", "parcoords", "bar", "scatter"]
    across = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert across[0] <= across[1] == width
    assert driver.execute_script(OUTSIDE) == []
    assert driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert set(driver.execute_script(BUTTONS)) <= {"Download plot as a PNG", "Reset axes"}  # none shares it in a cloud
    assert driver.title == f"Sweep {EVIL}"  # no script of a name has run
    assert browser.problems(driver) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_page_sorts_by_a_click_and_by_the_keyboard(driver: WebDriver, address: str, width: int) -> None:
    open_page(driver, address, width)

    def column() -> list[str]:
        return list(dict.fromkeys(driver.execute_script(FIRST_COLUMN)))

    heading = driver.find_element(By.CSS_SELECTOR, "th[aria-sort='descending']")
    assert heading.text.startswith("objective")
    assert column() == ["0.1", "0.03", "0.3", "0.01", "1.0"]
    by_rate = driver.find_element(By.CSS_SELECTOR, "table th button")
    by_rate.click()
    assert column() == ["0.01", "0.03", "0.1", "0.3", "1.0"]
    orders = driver.execute_script(ORDERS)
    assert orders == ["ascending", *["none"] * (len(orders) - 1)]
    by_rate.send_keys(Keys.ENTER)
    assert column() == ["1.0", "0.3", "0.1", "0.03", "0.01"]
    assert heading.get_attribute("aria-sort") == "none"
    by_rate.send_keys(Keys.SPACE)
    assert column() == ["0.01", "0.03", "0.1", "0.3", "1.0"]
    assert browser.problems(driver) == []


def test_links_follow_the_address_of_the_ui(driver: WebDriver, address: str) -> None:
    open_page(driver, address, 1280)
    link = driver.find_element(By.CSS_SELECTOR, "a.run")
    target = link.get_attribute("data-run")
    assert link.get_attribute("href") == f"http://127.0.0.1:5000{target}"
    box = driver.find_element(By.ID, "ui")
    box.clear()
    box.send_keys("https://tracking.example/base/")
    assert link.get_attribute("href") == f"https://tracking.example/base{target}"
    box.clear()
    box.send_keys("javascript:alert(1)")
    assert link.get_attribute("href") is None
