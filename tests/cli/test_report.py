"""``skahactl report``: one page from the local record and the saved logs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.browser import Browser, chromium
from tests.workplace import Workplace

pytestmark = pytest.mark.once

FAILING = (
    'echo "reading tile-$REPLICA_ID"; [ $((REPLICA_ID % 3)) -gt 0 ] || { echo "cannot open $REPLICA_ID.fits"; exit 2; }'
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def text_of(page: Path) -> str:
    """What a reader sees, without the charts."""
    found: list[str] = []

    class Reader(HTMLParser):
        hidden = 0

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.hidden += tag in ("style", "script", "svg")

        def handle_endtag(self, tag: str) -> None:
            self.hidden -= tag in ("style", "script", "svg")

        def handle_data(self, data: str) -> None:
            if not self.hidden:
                found.append(data)

    Reader().feed(page.read_text(encoding="utf-8"))
    return " ".join(" ".join(found).split())


def test_the_page_of_a_failed_job_says_what_failed_and_why(here: Workplace) -> None:
    here.run("apply", here.job("tiles", FAILING, 6), "--wait", expect=1)
    done = here.run("report", "tiles", "-o", "tiles.html")
    assert done.stdout.strip() == str(here.root / "tiles.html")
    text = text_of(here.root / "tiles.html")
    assert "4 of 6 replicas completed; 2 Failed." in text
    assert "cannot open 3.fits 2 replicas: 3,6" in text  # failed alike: one group
    assert "reading tile-3 cannot open 3.fits" in text
    assert "logs tiles --failed" in text
    assert f"shell = '''\n{FAILING}'''" in (here.root / "tiles.html").read_text().replace("&#39;", "'").replace(
        "&#34;", '"'
    ).replace("&gt;", ">")


def test_the_server_is_not_asked_and_the_record_is_not_changed(here: Workplace) -> None:
    here.run("apply", here.job("tiles", "echo done", 2), "--wait")
    before = (here.state / "ledger.sqlite3").read_bytes()
    (here.state / "local").rename(here.root / "gone")
    here.run("report", "tiles")
    assert not (here.state / "local").exists()
    assert (here.state / "ledger.sqlite3").read_bytes() == before
    assert "All 2 replicas completed." in text_of(here.root / "tiles.html")


def test_a_report_without_logs_says_so(here: Workplace) -> None:
    more = "[logs]\nkeep = 'none'"
    here.run("apply", here.job("tiles", FAILING, 3, more), "--wait", expect=1)
    here.run("report", "tiles")
    assert "the log is not saved on this machine" in text_of(here.root / "tiles.html")


def test_a_job_that_still_runs_has_a_page(here: Workplace, long: str) -> None:
    here.run("apply", long)
    here.run("get", "jobs")
    here.run("report", "long")
    text = text_of(here.root / "long.html")
    assert "not finished" in text
    assert "skahactl resume long" in re.sub(" -p [^ ]+", "", text)


def test_several_jobs_are_in_the_order_in_which_they_ran(here: Workplace) -> None:
    here.run("apply", here.job("zebra", "echo one"), "--wait")
    here.run("apply", here.job("apple", "echo two"), "--wait")
    here.run("report", "apple", "zebra", "-o", "both.html")
    text = text_of(here.root / "both.html")
    assert "2 jobs" in text
    assert text.index("zebra") < text.index("apple")


def test_retries_and_items_are_on_the_page(here: Workplace) -> None:
    shell = 'echo "$TILE"; [ -e "$REPLICA_ID" ] || { touch "$REPLICA_ID"; exit 1; }'
    more = "[env]\nTILE = '{item}'\n[retry]\nattempts = 2\n[items]\nvalues = ['a b', '<i>', 'c']\n"
    here.job("items", shell, 3, more)
    here.run("apply", "items.toml", "--wait")
    page = here.run("report", "items", "-o", "-").stdout
    assert page.startswith("<!DOCTYPE html>")
    assert "&lt;i&gt;" in page
    assert "<i>" not in page
    assert "3</dd>" in page  # three further attempts
    assert "Slowest items" in page


def test_the_page_replaces_only_regular_files(here: Workplace) -> None:
    here.run("apply", here.job("tiles", "true"), "--wait")
    target, link, fifo = here.write("target.html", "old"), here.root / "link.html", here.root / "fifo"
    link.symlink_to(target)
    os.mkfifo(fifo)
    process = here.start("report", "tiles", "-o", "fifo")
    assert fifo.read_text().startswith("<!DOCTYPE html>")
    assert process.communicate(timeout=60) == (f"{fifo}\n", "")
    assert fifo.is_fifo()
    here.run("report", "tiles", "-o", "link.html")
    assert link.is_symlink()
    assert target.read_text().startswith("<!DOCTYPE html>")
    page = here.run("report", "tiles", "-o", "/dev/stdout").stdout
    assert page.endswith("</html>")


def test_mistakes_are_errors_that_say_what_to_do(here: Workplace) -> None:
    here.run("apply", here.job("tiles", "true"), "--wait")
    mistakes = {
        "": "missing argument JOB",
        "nothing": "nothing",
        "tiles/1": "is not a job",
        "tiles -o missing/page.html": "cannot write the report",
        "tiles --run 7": "run 7",
        "tiles -o json": "-o report.html",
    }
    for said, done in zip(mistakes.values(), here.each(*(f"report {words}" for words in mistakes)), strict=True):
        assert (done.returncode, done.stdout, said in done.stderr) == (2, "", True), done


def test_a_real_job_in_a_real_browser(here: Workplace, browser: Browser) -> None:
    here.run("apply", here.job("tiles", FAILING, 9), "--wait", expect=1)
    here.run("report", "tiles")
    page = here.root / "tiles.html"
    browser.requests()
    browser.open(page)
    assert browser.run("return document.querySelectorAll('.timeline .plot .f-failed').length") == 3
    browser.point(".timeline .plot .f-failed")
    tip = browser.run("return document.getElementById('tip').innerText")
    assert tip.startswith("Replica 3: Failed")
    assert tip.endswith("cannot open 3.fits")
    assert set(browser.requests()) == {page.as_uri()}
    assert not browser.complaints()
