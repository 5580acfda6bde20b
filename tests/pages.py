"""Reading a page in a browser: how it is opened, the one way of waiting for what is read, and what is asked in one go.

Nothing here is about speed. ``ADAKD_BROWSER_SLOWER=6`` makes the browser six times slower, to find a test that reads
before the page has drawn.
"""

import os
import shutil
from contextlib import contextmanager
from functools import cache
from importlib.resources import files

import pytest

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SLOWER = float(os.environ.get("ADAKD_BROWSER_SLOWER", 1))
# Of playwright's own waiting, in milliseconds: the end of a page that hangs, on the slowest machine.
PATIENCE = 600_000

PAGE = "<!doctype html><meta charset=utf-8><style>%s body { margin: 12px }</style><main></main>"
# Starts a live figure on PAGE the way the built book does: no kernel, no server.
START = """async ([source, state]) => {
  const url = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
  window.figure = await import(url);
  const listeners = {};
  window.model = {
    get: (name) => state[name],
    set(name, value) { state[name] = value; (listeners["change:" + name] ?? []).forEach((f) => f()); },
    on(event, f) { (listeners[event] ??= []).push(f); },
    off(event, f) { listeners[event] = (listeners[event] ?? []).filter((g) => g !== f); },
    save_changes() {},
  };
  window.stop = figure.default.render({model, el: document.querySelector("main")});
}"""


@contextmanager
def open_browser():
    """Chromium without a window; without one the tests are skipped, or fail where ADAKD_REQUIRE_BROWSER=1."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if not chromium or not sync_playwright:
        reason = (
            f"pages are tested in a browser: playwright ({'found' if sync_playwright else 'missing'}) "
            f"and Debian's package chromium ({chromium or 'missing'})"
        )
        give_up = pytest.fail if os.environ.get("ADAKD_REQUIRE_BROWSER") == "1" else pytest.skip
        give_up(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS, timeout=PATIENCE)
        yield browser
        browser.close()


def make_ready(page):
    """A new page, before it shows anything."""
    page.set_default_timeout(PATIENCE)
    if SLOWER > 1:
        session = page.context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})


def drawn(page):
    """Wait until every live figure on the page shows its state, and return the page.

    A change is drawn in the next frame; a change of size is noticed in one and drawn in the next; and a figure that
    trains says so in ``aria-busy`` until it has arrived and drawn.
    """
    page.wait_for_function(  # unlike evaluate, it goes on on the page to which this one leads
        """async () => {
          const frame = () => new Promise(requestAnimationFrame);
          do { await frame(); await frame(); await frame(); } while (document.querySelector(".ak[aria-busy=true]"));
          return true;
        }"""
    )
    return page


def tab_stops(page):
    """Wait until what is wider than its box can be reached by the tab key, so that it can be moved without a pointer.

    The theme decides it when the page has loaded, and 300 ms after a change of size.
    """
    page.wait_for_function(
        """() => [...document.querySelectorAll(".bd-article :is(pre, table, .pst-scrollable-table-container)")]
          .filter((box) => box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "visible")
          .every((box) => box.tabIndex === 0)"""
    )


@cache
def axe():
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf8")


# Nothing is fetched for it: `preload` would ask for style sheets once more.
COLOURS = ["color-contrast", "link-in-text-block"]
AXE = """async ([context, rules, without]) => {
  const options = {resultTypes: ["violations"], preload: false, iframes: false};
  if (rules) options.runOnly = rules;
  options.rules = Object.fromEntries(without.map((rule) => [rule, {enabled: false}]));
  const { violations } = await axe.run(context, options);
  const texts = ({ any, all, none }) => [...any, ...all, ...none].map((why) => why.message).join("; ");
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")}: ${node.html.slice(0, 120)}: ${texts(node)}`));
}"""
# Marks one of the texts, and of the links, that agree in size, weight, colour, what lies under them and what is around them.
ONE_OF_EACH = """() => {
  const grounds = new Map([[null, ""]]);
  const ground = (element) => {
    if (!grounds.has(element)) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(element);
      const own = [backgroundColor, backgroundImage, opacity].join();
      grounds.set(element, own === "rgba(0, 0, 0, 0),none,1" ? ground(element.parentElement) : ground(element.parentElement) + own);
    }
    return grounds.get(element);
  };
  const seen = new Set();
  for (const element of document.querySelectorAll("body *:not(svg *, script, style)")) {
    const link = element.tagName === "A";
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!(link || text) || !element.checkVisibility()) continue;
    const { color, fontSize, fontWeight, textDecorationLine } = getComputedStyle(element);
    const around = link && [textDecorationLine, getComputedStyle(element.parentElement).color, element.parentElement.tagName];
    const look = [element.tagName, text, color, fontSize, fontWeight, ground(element), around].join();
    element.toggleAttribute("data-one-of-each", !seen.has(look));
    seen.add(look);
  }
  return seen.size;
}"""
# What takes axe-core most of its time. Pictures and formulas have names as wholes; the list of chapters is the same on each
# page, and so are the colours of code and of signatures, of which the reference has hundreds: a few are left.
WITHOUT_INSIDES = """() => {
  for (const whole of document.querySelectorAll(".figure svg, mjx-container, .bd-sidebar nav")) whole.replaceChildren();
  const signatures = [...document.querySelectorAll("dt.sig")].slice(12);
  for (const code of [...document.querySelectorAll("div.highlight pre"), ...signatures]) code.textContent = code.textContent;
}"""


def barriers(page):
    """What axe-core finds serious or critical for readers by ear or keyboard."""
    page.evaluate(axe())
    return page.evaluate(AXE, [{"include": [["html"]]}, None, COLOURS])


def pale_texts(page):
    """Texts that are too near the colour they stand on, and links that the words around them hide; of each look one."""
    page.evaluate(axe())
    assert page.evaluate(ONE_OF_EACH) > 0
    return page.evaluate(AXE, [{"include": [["[data-one-of-each]"]]}, COLOURS, []])


def pictures(page):
    """The drawn pictures, as HTML."""
    return drawn(page).inner_html(".ak-pictures")


def words(page):
    """The sentences under the drawn pictures."""
    return drawn(page).inner_text(".ak-words")


def box_of(page, selector, n=0):
    """x, y, width and height of the n-th element that matches: a figure that redraws replaces its SVG between two questions."""
    return drawn(page).evaluate(
        "([selector, n]) => document.querySelectorAll(selector)[n].getBoundingClientRect().toJSON()",
        [selector, n],
    )
