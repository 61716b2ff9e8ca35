# SPDX-License-Identifier: Apache-2.0
"""Drives the page at /ui in Chromium, by keyboard where a person would."""

import os
import re
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from harness import FACT, FACT_QUESTION, check, note, options, run_checks

CHROMIUM = "/usr/bin/chromium"
args = options(
    __doc__, ("--book", dict(required=True)), ("--screenshot", dict(default="page.png")),
    ("--characters", dict(type=int, default=120_000, help="how much of the book is read")),
    ("--seconds", dict(type=float, default=300, help="the longest that an answer may take")))
url = args.url

if not os.path.exists(CHROMIUM):
    print(f"the page is not tested: there is no {CHROMIUM}")
    sys.exit(0)
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    print("the page is not tested: pip install -r requirements-page.txt")
    sys.exit(0)

playwright = sync_playwright().start()
browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
page = browser.new_page(viewport={"width": 1100, "height": 800})
asked_for, errors = [], []
page.on("request", lambda request: asked_for.append(request.url))
page.on("console", lambda message: message.type == "error" and errors.append(message.text))
page.on("pageerror", lambda error: errors.append(str(error)))

PROGRESS = "progress, [role=progressbar]"
LIVE = "[aria-live]:not([aria-live=off]), [role=status], [role=log], output"
FIELD = "textarea, input[type=text], input[type=search], input:not([type])"


def shot(name):
    path = Path(args.screenshot)
    page.screenshot(path=path.with_stem(f"{path.stem}-{name}"), full_page=False)


def answer():
    """What a live region says after the question, without headings."""
    for text in page.locator(LIVE).all_inner_texts():
        lines = text.rpartition(FACT_QUESTION)[2].splitlines() if FACT_QUESTION in text else []
        if said := "\n".join(l for l in lines if l.strip().lower() not in ("", "answer")):
            return said
    return ""


def focus_by_tab(selector):
    """Presses Tab until an element has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement?.matches(s)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def brightness():
    """Brightness of the page's background, 0 to 1."""
    color = page.evaluate("""() => [document.body, document.documentElement]
        .map(e => getComputedStyle(e).backgroundColor).find(c => !/, 0\\)$/.test(c)) ?? 'rgb(255, 255, 255)'""")
    return sum(float(n) for n in re.findall(r"[\d.]+", color)[:3]) / 765


@check("the page opens")
def _():
    reply = page.goto(url + "/ui")
    assert reply.status == 200, reply.status
    page.wait_for_load_state("networkidle")
    assert page.title() and page.evaluate("document.documentElement.lang"), "title and language"
    assert page.locator("input[type=file]").count() >= 1
    assert page.locator(FIELD).first.is_visible()
    unnamed = page.evaluate("""() => [...document.querySelectorAll('button, input, textarea, select')]
        .filter(e => e.type !== 'hidden' && !(e.labels?.length || e.ariaLabel || e.title ||
            e.getAttribute('aria-labelledby') || e.textContent.trim())).map(e => e.outerHTML)""")
    assert not unnamed, f"controls without a name: {unnamed}"


@check("a book is chosen, a question is asked by keyboard, progress is shown")
def _():
    text = Path(args.book).read_text(encoding="utf-8")[:args.characters]
    half = text.rfind("\n", 0, len(text) // 2) + 1
    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder) / "book.txt"
        book.write_text(f"{text[:half]}\n{FACT}\n\n{text[half:]}", encoding="utf-8")
        page.locator("input[type=file]").first.set_input_files(str(book))
        page.get_by_text(re.compile("book.txt")).first.wait_for(timeout=10_000)
    page.evaluate("document.activeElement?.blur()")
    focus_by_tab(FIELD)
    page.keyboard.type(FACT_QUESTION)
    page.keyboard.press("Enter")
    bar = page.locator(PROGRESS).first
    bar.wait_for(state="visible", timeout=30_000)
    seen = set()
    end = time.monotonic() + 5
    while time.monotonic() < end and bar.is_visible():
        seen.add(bar.get_attribute("value") or bar.get_attribute("aria-valuenow"))
        page.wait_for_timeout(100)
    shot("progress")
    note(f"values of the progress: {len(seen)}")
    assert len(seen) > 1, f"the progress stands still: {seen}"


@check("an answer in the live region")
def _():
    page.wait_for_function("selector => [...document.querySelectorAll(selector)].every("
                           "e => !e.offsetParent)", arg=PROGRESS, timeout=args.seconds * 1000)
    before, same, end = "", 0, time.monotonic() + 60
    while same < 8 and time.monotonic() < end:
        page.wait_for_timeout(250)
        now = answer()
        same = same + 1 if now and now == before else 0
        before = now
    note(f"answer: {before[:200]!r}")
    assert before, "no answer"


@check("passages are marked, and their buttons scroll to them")
def _():
    marks = page.locator("mark")
    marks.first.wait_for(state="attached", timeout=10_000)
    note(f"{marks.count()} marks")
    found = page.evaluate("""async () => {
        const inView = e => { const r = e.getBoundingClientRect();
          return r.height > 0 && r.top >= -5 && r.bottom <= innerHeight + 5; };
        const buttons = [...document.querySelectorAll('button, a[href^="#"]')].filter(b =>
          /passage/i.test(b.className + b.id + b.ariaLabel + b.textContent +
            (b.closest('[class*=passage], [id*=passage], [aria-label*=assage]') ? 'passage' : '')));
        if (!buttons.length) return 'no buttons of passages';
        for (const button of [buttons.at(-1), buttons[0]]) {
          button.click();
          await new Promise(r => setTimeout(r, 1500));
          if (![...document.querySelectorAll('mark')].some(inView)) return 'no mark came into view';
        }
        return ''; }""")
    shot("passage")
    assert not found, found


@check("dark and light")
def _():
    values = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(200)
        values[scheme] = brightness()
        shot(scheme)
    assert values["light"] > 0.6 and values["dark"] < 0.4, values


@check("a narrow window needs no scrolling sideways")
def _():
    page.set_viewport_size({"width": 360, "height": 640})
    width = page.evaluate("document.documentElement.scrollWidth")
    shot("narrow")
    assert width <= 360, width


@check("nothing is asked of another machine, and no errors")
def _():
    foreign = [u for u in asked_for
               if urlsplit(u).scheme not in ("data", "blob") and urlsplit(u).hostname != "127.0.0.1"]
    assert not foreign, foreign
    assert not errors, errors[:5]


try:
    run_checks(args.only)
finally:
    browser.close()
    playwright.stop()
