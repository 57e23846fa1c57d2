"""Pages of the MLflow UI in headless Chromium, as somebody sees them who follows a link of `blitz ui`.

Nothing sleeps: each page has a condition that holds only once its content is there. Selectors are of MLflow 3.17.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")
PROGRAMS = ("chromium", "chromedriver")
SIZE = (1600, 1000)
PATIENCE = 600.0  # seconds, on a machine however busy
# What is an error on every page of MLflow's own: there is no login; a layout took two frames.
OF_MLFLOW = ("users/current", "ResizeObserver loop")
CARD = "[data-testid=experiment-view-compare-runs-card]"
SECTION = "[data-testid=experiment-view-compare-runs-section-header]"
NAMES = ".ag-pinned-left-cols-container .ag-row"
PARAMETERS = "button[role=switch][aria-label='Parameters - Show diff only']"


@contextmanager
def chromium(profile: Path) -> Iterator[WebDriver]:
    """A browser that never saw MLflow; the test is skipped where there is none."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: apt-get install chromium chromium-driver)")
    browser, manager = (shutil.which(program) for program in PROGRAMS)
    options = Options()
    options.binary_location = str(browser)
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--window-size={SIZE[0]},{SIZE[1]}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = WebDriver(options, Service(manager))
    try:
        yield driver
    finally:
        driver.quit()


def visit(driver: WebDriver, url: str) -> None:
    """Load a page from scratch, also where addresses differ after their # alone."""
    driver.get("about:blank")
    driver.get(url)


def until(driver: WebDriver, condition: Callable[[WebDriver], Literal[False] | T], what: str) -> T:
    """What `condition` returns once it is true. An element that the page has replaced meanwhile means: not yet."""
    ignored = [NoSuchElementException, StaleElementReferenceException]
    wait: WebDriverWait[WebDriver] = WebDriverWait(driver, PATIENCE, 0.1, ignored_exceptions=ignored)
    return wait.until(condition, f"{what} on {driver.current_url}")


def seen(driver: WebDriver, selector: str, by: str = By.CSS_SELECTOR) -> WebElement:
    def shown(driver: WebDriver) -> WebElement | Literal[False]:
        return next((found for found in driver.find_elements(by, selector) if found.is_displayed()), False)

    return until(driver, shown, selector)


def press(driver: WebDriver, selector: str, by: str = By.CSS_SELECTOR) -> None:
    """Click on what is seen. One that the page replaced before the click has not taken it."""

    def pressed(driver: WebDriver) -> bool:
        seen(driver, selector, by).click()
        return True

    until(driver, pressed, f"a click on {selector}")


def text(driver: WebDriver, words: str) -> None:
    """Wait until they can be read."""
    until(driver, lambda driver: words in driver.find_element(By.TAG_NAME, "body").text, repr(words))


def problems(driver: WebDriver) -> list[str]:
    """Errors on the browser's console since the last call."""
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    return [message for message in errors if not any(words in message for words in OF_MLFLOW)]


# ---- an experiment's runs


ASSISTANT = "[data-component-id='mlflow.assistant.chat_panel.close']"


def close_assistant(driver: WebDriver) -> None:
    """It opens by itself on a first visit, over a quarter of the window."""
    press(driver, ASSISTANT)
    until(driver, lambda driver: not driver.find_elements(By.CSS_SELECTOR, ASSISTANT), "an end of the assistant")


def runs_table(driver: WebDriver, link: str, number: int, shown: int) -> None:
    """The shared view of `number` runs, those of a sweep folded below its own: so many rows are `shown`."""
    visit(driver, link)
    text(driver, "You're viewing a shared view")
    wait_for_rows(driver, number, shown)


def wait_for_rows(driver: WebDriver, number: int, shown: int) -> None:
    text(driver, f"{number} matching runs")
    until(driver, lambda driver: len(driver.find_elements(By.CSS_SELECTOR, NAMES)) == shown, f"{shown} rows")


def unfold(driver: WebDriver, row: int, shown: int) -> None:
    """Press the + of a sweep's row; so many rows are shown then."""
    press(driver, f"{NAMES}[row-index='{row}'] button[data-component-id*='runnamecellrenderer']")
    until(driver, lambda driver: len(driver.find_elements(By.CSS_SELECTOR, NAMES)) == shown, f"{shown} rows")


def search(driver: WebDriver, query: str) -> None:
    seen(driver, "input[placeholder*='metrics.rmse']").send_keys(query, Keys.ENTER)


def columns(driver: WebDriver) -> list[str]:
    """Ids such as params.`optimizer.lr`, left to right; those to scroll to are not among them."""
    script = """return [...document.querySelectorAll('.ag-header-row-column .ag-header-cell')]
        .sort((a, b) => a.getBoundingClientRect().x - b.getBoundingClientRect().x).map(x => x.getAttribute('col-id'))"""
    return [column for column in driver.execute_script(script) if column and not column.isdigit()]


def is_uncovered(driver: WebDriver, column: str) -> bool:
    """Whether a cell of the first row can be read: in the window, and nothing lies over it."""
    script = """const row = document.querySelector(".ag-center-cols-container [row-index='0']");
        const cell = row.querySelector(`[col-id='${arguments[0]}']`);
        const {left, right, top, bottom} = cell.getBoundingClientRect();
        return [left + 2, right - 2].every(x => cell.contains(document.elementFromPoint(x, (top + bottom) / 2)))"""
    return bool(driver.execute_script(script, column))


def row_names(driver: WebDriver) -> list[str]:
    """Names of the runs, from top to bottom."""

    def names(driver: WebDriver) -> list[str]:
        rows = driver.find_elements(By.CSS_SELECTOR, NAMES)
        return [
            row.find_element(By.TAG_NAME, "a").text
            for row in sorted(rows, key=lambda row: int(row.get_attribute("row-index") or 0))
        ]

    return until(driver, names, "names of runs")


def cell(driver: WebDriver, row: int, column: str) -> str:
    selector = f".ag-center-cols-container [row-index='{row}'] [col-id='{column}']"
    return until(driver, lambda driver: driver.find_element(By.CSS_SELECTOR, selector).text, f"a text in {selector}")


def compare(driver: WebDriver, rows: list[int]) -> None:
    """Tick rows of the table, and press Compare."""
    for row in rows:
        box = driver.find_element(By.CSS_SELECTOR, f"{NAMES}[row-index='{row}'] .ag-checkbox-input")
        driver.execute_script("arguments[0].click()", box)  # it lies under its picture
        seen(driver, f"{NAMES}[row-index='{row}'].ag-row-selected")
    press(driver, "//button[normalize-space()='Compare' and not(@disabled)]", By.XPATH)
    text(driver, f"Comparing {len(rows)} Runs")


# ---- the page that compares runs


def plotted(driver: WebDriver, what: Literal["Parameters", "Metrics"]) -> list[str]:
    """Those that the plot at the top of the page has chosen by itself, once it is drawn."""
    seen(driver, ".js-plotly-plot .parcoords-lines, .js-plotly-plot .parcoords")
    label = f"//*[normalize-space(text())='{what}:']/following::*[contains(@class, 'select-selector')][1]"
    return seen(driver, label, By.XPATH).text.split("\n")


def parameter_rows(driver: WebDriver) -> dict[str, WebElement]:
    """Rows of the table of parameters, which is scrolled to; those of metrics and tags look alike."""
    switch = seen(driver, PARAMETERS)
    driver.execute_script("arguments[0].scrollIntoView()", switch)
    rows = switch.find_elements(By.XPATH, "./following::table[1]//tr")
    return {row.find_element(By.XPATH, "./*[1]").text: row for row in rows}


def show_differing_parameters(driver: WebDriver, alone: bool = True) -> None:
    press(driver, PARAMETERS)
    seen(driver, f"{PARAMETERS}[aria-checked={str(alone).lower()}]")


def is_in_sight(driver: WebDriver, element: WebElement) -> bool:
    """Whether all of it can be seen without scrolling: in the window, and in each box around it that scrolls."""
    script = """const it = arguments[0].getBoundingClientRect();
        if (it.top < 0 || it.bottom > innerHeight) return false;
        for (let box = arguments[0].parentElement; box; box = box.parentElement) {
            const top = box.getBoundingClientRect().top;
            if (!/auto|scroll|hidden/.test(getComputedStyle(box).overflowY)) continue;
            if (it.top < top - 1 || it.bottom > top + box.clientHeight + 1) return false;
        }
        return true;"""
    return bool(driver.execute_script(script, element))


# ---- a run's pages, at BASE/#/experiments/ID/runs/ID


def note(driver: WebDriver, run: str) -> tuple[str, list[str]]:
    """Its text, and that of its code blocks alone."""
    visit(driver, f"{run}?workflowType=machine_learning")
    press(driver, "//*[normalize-space(text())='Show more']", By.XPATH)
    text(driver, "Show less")
    shown = seen(driver, "//*[normalize-space(text())='Description']/following::*[.//p][1]", By.XPATH)
    return shown.text, [block.text for block in shown.find_elements(By.TAG_NAME, "pre")]


def sections(driver: WebDriver, run: str, kind: str) -> dict[str, int]:
    """Headings of the charts of its `model` or `system` metrics, each with the number of charts."""
    visit(driver, f"{run}/{kind}-metrics?workflowType=machine_learning")
    seen(driver, f"{CARD} .scatterlayer .trace")
    headings = [heading.text.replace("\n", " ") for heading in driver.find_elements(By.CSS_SELECTOR, SECTION)]
    found = [match for heading in headings if (match := re.match(r"(.+?) *\((\d+)\)", heading))]
    return {match[1]: int(match[2]) for match in found}


def drawn_curves(driver: WebDriver) -> list[str]:
    """Titles of the charts with a line of two points or more, among those that are scrolled to."""
    script = """return [...document.querySelectorAll(arguments[0])].filter(card =>
        [...card.querySelectorAll('.scatterlayer .js-line')].some(line => /^M.+[LHVCSQ]/.test(line.getAttribute('d'))))
        .map(card => card.innerText.trim().split('\\n')[0])"""
    return list(driver.execute_script(script, CARD))


def chart_sections(driver: WebDriver, link: str) -> list[str]:
    """Headings of the charts of an experiment's runs, from top to bottom."""
    visit(driver, f"{link}&compareRunsMode=CHART")
    seen(driver, CARD)
    headings = [heading.text.split("\n")[0] for heading in driver.find_elements(By.CSS_SELECTOR, SECTION)]
    return [re.sub(r" *\(.*", "", heading) for heading in headings]


def open_figure(driver: WebDriver, run: str, path: str) -> tuple[int, int]:
    """Its artifacts with an image open; returns the image's own size."""
    visit(driver, f"{run}/artifacts/{path}?workflowType=machine_learning")
    script = """const image = document.querySelector(`img[alt="${arguments[0]}"]`);
        return image && image.complete && image.naturalWidth ? [image.naturalWidth, image.naturalHeight] : null"""
    width, height = until(driver, lambda driver: driver.execute_script(script, path), f"the image {path}")
    return width, height
