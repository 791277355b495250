"""The report page, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from skahactl.engine.usage import RunUsage
from skahactl.model import zero_filled
from skahactl.render.charts import TimeScale, concurrency, histogram_of_times
from skahactl.render.report import Report, ReportJob, report_page
from skahactl.render.timeline import spans
from tests.browser import Browser, chromium
from tests.rendering import attempt
from tests.reports import START, Texts, job, report_of

pytestmark = pytest.mark.once

HOSTILE = Texts(
    item="</title></svg><script>window.hacked = 1</script>\"'><img src=x onerror='window.hacked = 2'>{{ 7 * 7 }}",
    line="\x1b[31m</pre><script>window.hacked = 3</script>\x00\x07]]><svg onload=window.hacked=4>\u202e&lt; <b>bold",
    name="<style>*{display:none}</style>",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def written(page: Path, report: Report) -> Path:
    page.write_text(report_page(report), encoding="utf-8")
    return page


def shown(browser: Browser, selector: str) -> int:
    """How many of these are on the page with an area that can be seen."""
    found = browser.run(
        "return [...document.querySelectorAll(arguments[0])].filter("
        "e => { const b = e.getBoundingClientRect(); return b.width > 0 && b.height > 0 }).length",
        selector,
    )
    return int(found)


def tip(browser: Browser) -> str:
    return str(browser.run("const t = document.getElementById('tip'); return t.hidden ? '' : t.innerText"))


def test_every_part_of_the_page_is_there(browser: Browser, page: Path) -> None:
    browser.open(written(page, report_of(job(40, at_once=8, failing=4))))
    for part, least in {
        ".head .verdict": 1,
        ".head .counts rect": 2,
        ".timeline .f-completed": 36,
        ".timeline .f-failed": 4,
        ".timeline .f-waiting": 40,
        ".concurrency path": 2,
        ".times rect": 3,
        ".usage .bullet": 2,
        ".usage .plot rect": 4,
        ".failures pre": 1,
        ".slowest tbody tr": 15,
        ".manifest pre": 1,
    }.items():
        assert shown(browser, part) >= least, part
    text = browser.run("return document.body.innerText")
    assert "36 of 40 replicas completed; 4 Failed." in text
    assert "skahactl -p canfar logs survey --failed" in text
    assert not browser.complaints()


def test_the_page_makes_no_request_but_for_itself(browser: Browser, page: Path) -> None:
    browser.requests()
    browser.open(written(page, report_of(job(20, failing=2, texts=HOSTILE))))
    browser.point(".timeline .f-completed")
    assert set(browser.requests()) == {page.as_uri()}


def test_the_page_can_be_read_without_a_script(browser: Browser, page: Path) -> None:
    browser.open(written(page, report_of(job(20, failing=2))), script=False)
    try:
        tree = browser.command("DOM.getDocument", depth=-1)
        found = browser.command("DOM.querySelectorAll", nodeId=tree["root"]["nodeId"], selector=".timeline title")
        assert len(found["nodeIds"]) == 20
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_pointing_at_an_attempt_tells_about_it(browser: Browser, page: Path) -> None:
    browser.open(written(page, report_of(job(12, failing=1))))
    browser.point(".timeline .f-failed")
    lines = tip(browser).split("\n")
    assert lines[:2] == ["Replica 1: Failed, exit code 2", "tile 271.285 1"]
    assert re.match(r"waited [\d.]+ s, ran \d+ min", lines[2])
    assert lines[3] == "measure.sh: cannot open images/271.285.fits"
    browser.point(".manifest pre")
    assert tip(browser) == ""


def test_a_tap_and_the_arrow_keys_do_the_same(browser: Browser, page: Path) -> None:
    browser.open(written(page, report_of(job(12, failing=1))), width=390)
    browser.command("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        browser.tap(".timeline .f-completed", 3)
        assert tip(browser).startswith("Replica 5: Completed, exit code 0")
        browser.tap(".manifest h3")
        assert tip(browser) == ""
    finally:
        browser.command("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.open(page)
    browser.run("document.querySelector('.timeline .plot').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert tip(browser).startswith("Replica 2:")
    browser.press("Escape")
    assert tip(browser) == ""


def test_fast_arrow_keys_are_all_counted_and_scroll_along(browser: Browser, page: Path) -> None:
    browser.open(written(page, report_of(job(60, failing=1))))
    browser.run("document.querySelector('.timeline .plot').focus()")
    browser.run(  # all before the next frame
        "for (let n = 0; n < 50; n++) document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    )
    browser.run("return new Promise(done => setTimeout(done, 1000))")  # longer than a smooth scroll
    assert tip(browser).startswith("Replica 50:")
    assert browser.run("return document.querySelector('.on').getBoundingClientRect().bottom <= innerHeight")


def test_the_page_follows_the_light_and_the_dark_mode(browser: Browser, page: Path) -> None:
    written(page, report_of(job(12)))
    brightness = {}
    for dark in (False, True):
        browser.open(page, dark=dark)
        brightness[dark] = {
            part: sum(map(int, re.findall(r"\d+", str(browser.run(script))[:20])[:3]))
            for part, script in {
                "page": "return getComputedStyle(document.body).backgroundColor",
                "text": "return getComputedStyle(document.querySelector('h1')).color",
                "card": "return getComputedStyle(document.querySelector('.card')).backgroundColor",
            }.items()
        }
    assert brightness[False]["page"] > 600 > 300 > brightness[False]["text"]
    assert brightness[True]["page"] < 150 < 500 < brightness[True]["text"]
    assert brightness[True]["card"] < 200 < brightness[False]["card"]


@pytest.mark.parametrize("width", [320, 390, 800, 1920])
def test_nothing_is_wider_than_the_window(browser: Browser, page: Path, width: int) -> None:
    browser.open(
        written(page, report_of(job(300, failing=3, texts=Texts(item="x" * 300, line="y" * 3000)))), width=width
    )
    assert browser.run("return document.documentElement.scrollWidth") <= width


def test_a_printed_page_is_light_and_whole(browser: Browser, page: Path) -> None:
    written(page, report_of(job(300, failing=3)))
    browser.open(page, dark=True, media="print", width=720)
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown(browser, ".failures pre") == 3  # also those that are closed on a screen
    assert shown(browser, ".screen") == 0
    assert browser.run("const s = document.querySelector('.scroll'); return s.scrollHeight <= s.clientHeight + 1")
    pages = browser.pdf().count(b"/Type /Page\n")
    assert 2 <= pages <= 8


def test_hostile_names_and_lines_stay_text(browser: Browser, page: Path) -> None:
    browser.open(
        written(page, report_of(job(20, failing=2, texts=HOSTILE), job(3, texts=HOSTILE, after=(HOSTILE.name,))))
    )
    browser.point(".timeline .f-failed")
    assert "<script>window.hacked = 1</script>" in tip(browser)
    assert browser.run("return window.hacked === undefined")
    assert browser.run("return document.querySelectorAll('img, b > script, main script, main style').length") == 0
    assert browser.run("return document.scripts.length") == 1
    text = browser.run("return document.querySelector('.failures pre').textContent")
    assert (
        text.split("\n")[0]
        == "</pre><script>window.hacked = 3</script>\ufffd\ufffd]]><svg onload=window.hacked=4>\ufffd&lt; <b>bold"
    )
    assert browser.run("return document.querySelector('.job h2').textContent") == HOSTILE.name
    assert "{{ 7 * 7 }}" in browser.run("return document.body.textContent")
    assert not browser.complaints()


def test_the_policy_of_the_page_stops_a_script_that_is_not_its_own(browser: Browser, page: Path) -> None:
    written(page, report_of(job(3)))
    page.write_text(page.read_text().replace("</main>", "<script>window.hacked = 1</script></main>"))
    browser.open(page)
    assert browser.run("return window.hacked === undefined")
    assert any("Content Security Policy" in line for line in browser.complaints())


def test_several_jobs_have_sections_and_an_order(browser: Browser, page: Path) -> None:
    shards = job(10, texts=Texts(name="shards"))
    merge = job(1, start=(shards.summary.ended or START) + 30, texts=Texts(name="merge"), after=("shards",))
    browser.open(written(page, report_of(shards, merge)))
    names = browser.run("return [...document.querySelectorAll('.order .name a')].map(a => a.textContent)")
    assert names == ["shards", "merge"]
    merge_bar, shards_bar = (
        browser.run("return document.querySelectorAll('.order .f-completed')[arguments[0]].getBoundingClientRect()", n)
        for n in (1, 0)
    )
    assert shards_bar["right"] <= merge_bar["left"]
    targets = browser.run("return [...document.querySelectorAll('.order a')].map(a => a.hash)")
    assert [
        browser.run("return document.querySelector(arguments[0] + ' h2').innerText", one) for one in targets
    ] == names
    assert "after shards" in browser.run("return document.querySelector('.order').innerText")


@pytest.mark.parametrize("at_once", [512, 5000])
def test_five_thousand_replicas_are_small_and_quick(browser: Browser, page: Path, at_once: int) -> None:
    long = Texts(item="<" * 500, line='"' * 2000)
    report = report_of(job(5000, at_once=at_once, failing=5000, texts=long))
    began = time.process_time()  # other tests may keep the machine busy
    text = report_page(report)
    assert time.process_time() - began < 5
    assert len(text.encode()) < 5_000_000
    page.write_text(text)
    began = time.monotonic()
    browser.open(page)
    assert shown(browser, ".timeline .plot .f-failed") == 5000
    assert time.monotonic() - began < 60  # the browser draws it, too


def test_many_more_attempts_than_can_be_drawn_keep_the_failed_ones() -> None:
    large = job(30_000, at_once=512, failing=40)
    text = report_page(report_of(large))
    assert len(text.encode()) < 6_000_000
    assert text.count(": Failed, exit code 2\n") == 40
    assert "20,000 of 30,000 attempts are drawn, failed ones first." in text


def queued() -> ReportJob:
    made = job(1)
    summary = replace(made.summary, status="Queued", counts=zero_filled({"Queued": 1}), ended=None)
    return replace(made, summary=summary, attempts=(), usage=RunUsage((), (), None, None, 0))


@pytest.mark.parametrize(
    "report",
    [
        report_of(job(1)),
        report_of(job(20, failing=2, texts=HOSTILE)),
        report_of(job(300, failing=9, retry_after=50_000), job(3)),
        report_of(queued()),
    ],
    ids=["one", "hostile", "retried", "queued"],
)
def test_the_page_is_valid_html(report: Report) -> None:
    html5lib = pytest.importorskip("html5lib")
    html5lib.HTMLParser(strict=True).parse(report_page(report))


def test_a_long_idle_time_is_shortened() -> None:
    day = 86_400.0
    scale = TimeScale([(0, 100), (50, 600), (day, day + 600)])
    assert scale.x(0) == 0
    assert scale.x(600) == pytest.approx(48)
    assert scale.x(day) == pytest.approx(52)
    assert scale.x(day + 600) == pytest.approx(100)
    assert [one.label for one in scale.idle] == ["23 h 50 min idle"]
    for at in (0.0, 13.0, 600.0, day + 77):
        assert scale.at(scale.x(at)) == pytest.approx(at)
    assert [tick.x for tick in scale.ticks] == sorted(tick.x for tick in scale.ticks)
    assert all(after.x - before.x >= 7 for before, after in zip(scale.ticks, scale.ticks[1:], strict=False))


def test_concurrency_counts_what_ran_at_the_same_time() -> None:
    attempts = [
        attempt(1, "Completed", 0, 10, 100),
        attempt(2, "Completed", 0, 20, 50),
        attempt(3, "Completed", 50, 50, 90),  # begins as the second ends
        attempt(4, "Running", 60, 70, None),
    ]
    found = concurrency(spans(attempts, 200), TimeScale([(0, 200)]))
    assert found.peak == 3
    assert found.samples[0].running == 0
    assert found.samples[0].alive == 2
    assert found.samples[-1].running == 1


def test_a_histogram_holds_every_value_once() -> None:
    for times in ([5.0], [0.0, 0.0], [1.0, 2.0, 3.5, 60.0], [0.5, 1.0, 1.0, 7200.0], [3600.0] * 5 + [3601.0]):
        found = histogram_of_times([(seconds, "Completed") for seconds in times])
        assert found is not None
        assert sum(one.total for one in found.bins) == len(times)
        assert len(found.bins) <= 40
        assert found.bins[0].low <= min(times)
        assert max(times) <= found.bins[-1].high
        assert all(0 <= mark.x <= 100 for mark in (*found.marks, *found.ticks))
    assert histogram_of_times([]) is None
