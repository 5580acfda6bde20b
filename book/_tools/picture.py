"""Take the pictures of the playground that README and social cards show, from the built landing page.

make html && python book/_tools/picture.py [FOLDER]    FOLDER: the built pages, _build/html if it is left out

It needs Chromium, as the browser tests do. The setting and the step are fixed, so the networks on the picture are the same
on every run; fonts are the machine's own, and so the bytes are not.
"""

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "book" / "_static" / "playground.webp"
CARD = ROOT / "book" / "_static" / "card.jpg"  # not every service that shows cards reads WebP
STEP = 300
WIDTH = 900  # of the page's column, in CSS pixels
CARD_SIZE = 1200, 630  # what Open Graph asks for
# The timeline goes to a step as a reader's hand does.
GO_TO = """(step) => {
  const timeline = [...document.querySelectorAll(".ak-playground .ak-bar input[type=range]")].at(-1);
  timeline.value = step;
  timeline.dispatchEvent(new Event("input", { bubbles: true }));
}"""
ARRIVED = """() => document.querySelector(".ak-playground:not([aria-busy=true]) .ak-words")?.textContent.includes("After")"""
ONLY = ".ak-playground > :not(.ak-bar, .ak-pictures, .ak-numbers), .ak-charts { display: none !important }"


def take(folder):
    """The playground after STEP steps: its bar, the three planes, the numbers."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": 1500, "height": 1000}, device_scale_factor=2, color_scheme="light"
        )
        page.goto((folder / "book" / "intro.html").as_uri())
        page.wait_for_selector(".live-figure.is-live .ak-playground")
        page.evaluate(GO_TO, STEP)
        page.wait_for_function(ARRIVED)
        page.add_style_tag(content=f"{ONLY} .ak-playground {{ width: {WIDTH}px; padding: 12px }}")
        picture = page.locator(".ak-playground").screenshot()
        browser.close()
    return Image.open(BytesIO(picture)).convert("RGB")


def card(picture):
    """The picture on a card's canvas, as large as it fits, on the colour of its own paper."""
    canvas = Image.new("RGB", CARD_SIZE, picture.getpixel((2, 2)))
    scale = min(side / other for side, other in zip(CARD_SIZE, picture.size, strict=True))
    small = picture.resize([round(scale * side) for side in picture.size], Image.Resampling.LANCZOS)
    canvas.paste(small, [(side - other) // 2 for side, other in zip(CARD_SIZE, small.size, strict=True)])
    return canvas


def main(arguments):
    picture = take(Path(arguments[0]) if arguments else ROOT / "_build" / "html")
    picture.save(PICTURE, quality=80, method=6)
    card(picture).save(CARD, quality=85, optimize=True)
    print(*(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes" for path in (PICTURE, CARD)), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
