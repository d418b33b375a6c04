"""In a real browser: nothing goes wrong, tabs and sorting work, nothing overflows, all is printed.

Driven through a pipe; without a Chromium these tests skip.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedsim import report
from fedsim.records.study import read_study
from fedsim.report import study

pytestmark = pytest.mark.slow

LONG = "a-hospital-with-a-very-long-name-that-has-no-place-to-break-anywhere-in-it"
OVERFLOW = """
[...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect();
  const scrolls = ".scroll, pre, .skip, [role=tablist]";
  return box.right > innerWidth + 1 && box.width && !e.closest(scrolls);
}).map(e => e.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module", params=["run", "study"])
def page(
    request: Any,
    make_whole_record: Any,
    make_study: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return the page of a run and of a study, both with long names and all that there may be."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "study":
        methods = ("fedavg", "fedld", LONG)
        return study.write(read_study(make_study(folder / "study", methods=methods, virtual=True)))
    record = make_whole_record(folder, virtual=True, sites=4)
    record.scenario["description"] = LONG * 2
    record.population["class_names"] = ["normal", LONG]
    report.write(record)
    return folder / "report/index.html"


def test_it_opens_without_a_word(page: Path, browser: Any) -> None:
    browser.open(page)
    assert browser.said == []
    assert browser.run("document.querySelectorAll('main section').length") > 5
    assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 100)")


def test_what_it_may_not_do_is_noticed(tmp_path: Path, page: Path, browser: Any) -> None:
    other = tmp_path / "other.html"
    evil = "<script>document.title = 'taken'</script><img src='https://example.org/x.png'>"
    other.write_text(page.read_text().replace("<main", f"{evil}<main"))
    browser.open(other)
    assert len(browser.said) >= 2
    assert browser.run("document.title") != "taken"


@pytest.mark.parametrize("width", [320, 375, 800, 1280])
def test_nothing_overflows(page: Path, browser: Any, width: int) -> None:
    browser.open(page, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(OVERFLOW) == []


def test_tabs_work_by_mouse_and_keyboard(page: Path, browser: Any) -> None:
    browser.open(page)
    state = """(g => ({
      chosen: [...g.querySelector("[role=tablist]").children].map(t => t.ariaSelected),
      stops: [...g.querySelector("[role=tablist]").children].map(t => t.tabIndex),
      shown: [...g.children].slice(1).map(p => p.checkVisibility()),
      focused: document.activeElement.textContent,
    }))(document.querySelector(".tabs"))"""
    before = browser.run(state)
    num = len(before["chosen"])
    assert before["chosen"] == ["true"] + ["false"] * (num - 1)
    assert before["shown"] == [True] + [False] * (num - 1)
    browser.click(".tabs [role=tab]:nth-child(2)")
    clicked = browser.run(state)
    assert clicked["chosen"][:2] == ["false", "true"]
    assert clicked["shown"][:2] == [False, True]
    assert clicked["stops"][:2] == [-1, 0]
    browser.press("ArrowLeft")
    assert browser.run(state)["shown"] == before["shown"]
    browser.press("ArrowLeft")  # around the corner
    assert browser.run(state)["shown"][-1]
    browser.press("Home")
    browser.press("End")
    assert browser.run(state)["shown"][-1]
    browser.press("ArrowRight")
    again = browser.run(state)
    assert again["chosen"] == before["chosen"]
    panels = browser.run(
        "[...document.querySelectorAll('[role=tab]')].every(t => document.getElementById("
        "t.getAttribute('aria-controls')).getAttribute('aria-labelledby') === t.id)"
    )
    assert panels


COLUMN = """(t => [...t.tBodies[0].rows].map(r => r.cells[%d].dataset.key ?? null))(
  [...document.querySelectorAll("table")].find(t => t.checkVisibility()))"""


def test_a_table_is_sorted_by_mouse_and_keyboard(page: Path, browser: Any) -> None:
    browser.open(page)
    numeric = browser.run(
        "[...[...document.querySelectorAll('table')].find(t => t.checkVisibility()).tHead.rows[0]"
        ".cells].findIndex(c => c.classList.contains('number'))"
    )
    browser.run(
        "(t => t.id = 'first')([...document.querySelectorAll('table')]"
        ".find(t => t.checkVisibility()))"
    )
    heading = f"#first thead th:nth-child({numeric + 1})"

    def found() -> tuple[list[float | None], str | None]:
        values = browser.run(COLUMN % numeric)
        order = browser.run(f"document.querySelector('{heading}').ariaSort")
        return [None if value is None else float(value) for value in values], order

    before, _ = found()
    up = sorted(value for value in before if value is not None)
    gaps = [None] * before.count(None)
    browser.click(f"{heading} button")
    assert found() == ([*up, *gaps], "ascending")
    browser.press("Enter")
    assert found() == ([*up[::-1], *gaps], "descending")
    browser.press(" ")
    assert found() == ([*up, *gaps], "ascending")
    browser.click("#first thead th:first-child button")
    names = browser.run(COLUMN % 0)
    assert names == sorted(names)
    assert browser.run("document.querySelectorAll('#first [aria-sort]').length") == 1


def test_undefined_values_are_last_in_either_order(page: Path, browser: Any) -> None:
    browser.open(page)
    columns = """[...document.querySelectorAll("table")].flatMap(t =>
      [...t.tHead.rows[0].cells].map((c, n) => {
        const keys = () => [...t.tBodies[0].rows].map(r => r.cells[n].dataset.key);
        return [0, 1].map(() => { c.querySelector("button").click(); return keys(); });
      }).flat().filter(k => k.includes(undefined) && k.some(x => x !== undefined))
       .map(k => k.indexOf(undefined) === k.filter(x => x !== undefined).length))"""
    found = browser.run(columns)
    assert found
    assert all(found)


def test_the_keyboard_reaches_what_scrolls(page: Path, browser: Any) -> None:
    browser.open(page, width=375)
    boxes = browser.run(
        "[...document.querySelectorAll('.scroll, pre')].filter(b => b.checkVisibility())"
        ".map(b => [b.scrollWidth > b.clientWidth || b.scrollHeight > b.clientHeight + 1,"
        " b.tabIndex === 0])"
    )
    assert any(scrolls for scrolls, _ in boxes)
    assert all(reached for scrolls, reached in boxes if scrolls)


def test_on_paper_everything_is_unfolded(page: Path, browser: Any, tmp_path: Path) -> None:
    browser.open(page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    shut = """[...document.querySelectorAll(".panel, figure, table")]
      .filter(e => !e.checkVisibility()).length"""
    assert browser.run(shut) == 0
    assert browser.run("document.querySelector('nav').checkVisibility()") is False
    assert browser.run("document.querySelector('[role=tablist]').checkVisibility()") is False
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("document.querySelectorAll('details:not([open])').length") == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("document.querySelectorAll('details[open]').length") == 0
    browser.print_to(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_light_and_dark_differ_and_both_can_be_read(page: Path, browser: Any) -> None:
    contrast = """(() => {
      const parts = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(x => {
        const c = x / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
      const light = colour => (([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b)(parts(colour));
      const paper = light(getComputedStyle(document.body).backgroundColor);
      const read = "p, th, td, dt, dd, a, li, summary, [role=tab]";
      return [...document.querySelectorAll(read)].map(e => {
        const ink = light(getComputedStyle(e).color);
        return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); });
    })()"""
    papers = set()
    for scheme in ("light", "dark"):
        browser.open(page, prefers_color_scheme=scheme)
        papers.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        assert min(browser.run(contrast)) > 4.5
    assert len(papers) == 2


def test_without_its_script_all_is_there(page: Path, browser: Any) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        hidden = browser.run(
            "[...document.querySelectorAll('.panel, figure, table')]"
            ".filter(e => !e.checkVisibility()).length"
        )
        assert hidden == 0
        assert browser.run("document.querySelector('[role=tablist]').checkVisibility()") is False
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_console_is_listened_to(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "wrong.html"
    file.write_text("<!DOCTYPE html><script>console.log(1); missing()</script>")
    browser.open(file)
    assert any("missing is not defined" in line for line in browser.said)


@pytest.mark.parametrize("kind", ["run", "audited run", "study"])
def test_no_name_is_executed(
    kind: str,
    make_whole_record: Any,
    make_study: Any,
    hostile: Any,
    tmp_path: Path,
    browser: Any,
) -> None:
    if kind == "study":
        folder = make_study(tmp_path / "study", methods=("fedavg", "fedld", "krum"))
        hostile.spoil_study(folder)
        file = study.write(read_study(folder))
    else:
        if kind == "audited run":
            hostile.spoil_audit(tmp_path)
        report.write(hostile.spoil(make_whole_record(tmp_path, virtual=True, sites=4)))
        file = tmp_path / "report/index.html"
    shown = [file] if kind == "audited run" else [file, *file.parent.glob("*.svg")]
    assert kind != "run" or len(shown) > 5
    for page in shown:
        browser.open(page)
        assert browser.said == []
        assert browser.run("document.title") != "taken"
    browser.open(file)
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.querySelectorAll('iframe, svg, object, main a').length") == 0
    assert browser.run(HANDLERS) == []
    assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 100)")
    text = browser.run("document.body.textContent")
    for name in (*hostile.sites[:2], *hostile.classes):
        assert name in text


HANDLERS = """
[...document.querySelectorAll("*")].flatMap(e => e.getAttributeNames())
  .filter(name => name.startsWith("on"))
"""
