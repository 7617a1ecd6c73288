"""The page in a browser: nothing sticks out, nothing is asked for, the player plays, without errors."""

import shutil

import pytest
from browser import Browser, find_browser
from made_runs import RESULTS, confusion, make_run, row

from dd_jax.runs.report import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="there is no chromium or google-chrome on the PATH"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to start the browser with"),
]

LONG = ("Donaudampfschifffahrtsgesellschaft", "a rather long class name with spaces", "猫", *"0123456")
FRAMES = 5

# Elements that reach beyond the window, but for what is inside a box that scrolls.
STICKING_OUT = """[...document.querySelectorAll("body *")].filter((element) => {
  const box = element.getBoundingClientRect();
  return (box.right > innerWidth + 0.5 || box.left < -0.5) && !element.closest(".scroll, .strip");
}).map((element) => element.outerHTML.slice(0, 200))"""

# Texts of charts that are cut off by the card they are in.
CUT_OFF = """[...document.querySelectorAll(".chart text")].filter((element) => {
  const text = element.getBoundingClientRect(), card = element.closest(".card").getBoundingClientRect();
  return text.left < card.left || text.right > card.right + 0.5;
}).map((element) => element.textContent)"""

SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll(".chart text")].map((element) =>
  Math.hypot(element.getScreenCTM().a, element.getScreenCTM().b) * parseFloat(getComputedStyle(element).fontSize)))"""

SHOWN = """[...document.querySelectorAll(".evolution figure")].map((figure) => figure.offsetHeight > 0)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page on one run with everything, and one on three runs."""
    folder = tmp_path_factory.mktemp("runs")
    curve = [[0.1, 0.6, 0.9], [0.1, 0.7, 0.9]]
    own = row(0.9, curve=curve, curve_steps=[0, 2, 4], confusion=confusion(10))
    events = [{"step": 40, "event": "rolled back", "text": "x" * 200}]
    options = {"classes": LONG, "events": events, "frames": FRAMES, "num_batches": 14}
    full = make_run(folder / "full", RESULTS | {"distilled": own}, **options)
    wide = row(0.5, num_classes=60, confusion=confusion(60))
    many = make_run(folder / "many", {"distilled": wide}, classes=[f"class {i}" for i in range(60)])
    long = make_run(folder / ("a-very-long-name-of-a-run" * 5), None, outer_steps=(40, 100))
    return {"one": write_report(full), "several": write_report([full, many, long], folder / "several.html")}


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.mark.parametrize("name", ["one", "several"])
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_sticks_out_and_nothing_is_asked_for(pages, browser, name, width, dark):
    browser.requests.clear()
    browser.errors.clear()
    browser.open(pages[name], width, dark=dark)
    assert browser.run("innerWidth") == width
    browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(STICKING_OUT) == []
    assert browser.run(CUT_OFF) == []
    assert browser.run(SMALLEST_TEXT) >= 9.5
    assert browser.run("[...document.images].filter((image) => !image.naturalWidth).length") == 0
    assert [url for url in browser.requests if not url.startswith("data:")] == [pages[name].as_uri()]
    assert browser.errors == []
    assert browser.run("matchMedia('(prefers-color-scheme: dark)').matches") is dark


CONTRAST = """(() => {
  const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const over = (above, below) => [0, 1, 2].map((i) => above[i] * (above[3] ?? 1) + below[i] * (1 - (above[3] ?? 1)));
  const ground = (element) => {
    const own = element ? numbers(getComputedStyle(element).backgroundColor) : [255, 255, 255];
    return own.length === 4 ? over(own, ground(element.parentElement)) : own;
  };
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  return [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility() &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())).map((element) => {
      const style = getComputedStyle(element), svg = element instanceof SVGElement;
      const colour = numbers(svg ? style.fill : style.color);
      const behind = ground(svg ? element.closest(".chart") : element);
      return [ratio(luminance(colour), luminance(behind)), element.outerHTML];
    }).filter(([found]) => found < 4.5).map(([found, html]) => found.toFixed(1) + " " + html.slice(0, 150));
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(pages, browser, dark):
    browser.open(pages["one"], 1200, dark=dark)
    assert browser.run(CONTRAST) == []


def test_the_player_plays(pages, browser):
    browser.open(pages["one"], 360)
    last = [False] * (FRAMES - 1) + [True]
    assert browser.run(SHOWN) == last
    move = "slider.value = {}; slider.dispatchEvent(new Event('input')); "
    slider = (
        "(() => {{ const slider = document.querySelector('.evolution input'); {} return slider.ariaValueText; }})()"
    )
    assert browser.run(slider.format(move.format(1))) in (None, "outer step 20")
    assert browser.run(SHOWN) == [False, True, False, False, False]
    assert browser.run("document.querySelector('.evolution output').textContent") == "outer step 20"
    browser.run("document.querySelector('.evolution button').click()")
    assert browser.run("document.querySelector('.evolution button').textContent") == "Pause"
    for _ in range(100):
        if browser.run("document.querySelector('.evolution button').textContent") == "Play":
            break
        browser.run("new Promise((done) => setTimeout(done, 100))")
    assert browser.run(SHOWN) == last


def test_without_scripts_every_frame_is_there(pages, browser):
    browser.open(pages["one"], 360, scripts=False)
    assert browser.run(SHOWN) == [True] * FRAMES
    assert browser.run("document.querySelector('.controls').offsetHeight") == 0
    assert browser.run("document.documentElement.scrollWidth") <= 360


def test_on_paper_what_is_folded_is_open_and_nothing_is_cut_off(pages, browser):
    browser.open(pages["one"], 700, dark=True)
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("[...document.querySelectorAll('details')].every((details) => details.open)")
    assert browser.run("innerWidth") == 700  # a phone would rather widen the window than have something stick out
    assert browser.run("document.documentElement.scrollWidth") <= 700
    assert browser.run(STICKING_OUT.replace(' && !element.closest(".scroll, .strip")', "")) == []
    assert browser.run("getComputedStyle(document.body).color") == "rgb(28, 34, 40)"
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("[...document.querySelectorAll('details')].every((details) => !details.open)")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert browser.printed().startswith(b"%PDF")
