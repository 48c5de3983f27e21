"""How a page of `chunker surprise --html` does in Chromium, for some lengths of a file.

python tests/measure_pages.py FILE [BYTES ..]     default: 200,000 and 2,000,000 bytes, or the whole file

Prints for each: seconds that the command took, size of the page, seconds from the start of its opening to
where the text is drawn, and the longest task of the page's thread and the longest time between two frames
while it is scrolled from its beginning to its end, as a wheel, the keys and jumps on the strip do it. Of
tasks below 50 ms Chromium does not tell.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # or Python finds the tests' folder alone

import cli_support
from browser_support import Page, browser

SCROLL = """
const done = arguments[0], view = document.getElementById("view"), strip = document.getElementById("strip");
const tasks = [], box = strip.getBoundingClientRect();
new PerformanceObserver((list) => list.getEntries().forEach((entry) => tasks.push(entry.duration)))
  .observe({ type: "longtask", buffered: false });
const press = (key) => view.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
let frame = 0, worst = 0, before = performance.now();
const step = () => {
  const now = performance.now();
  worst = Math.max(worst, now - before), (before = now);
  if (frame < 150) view.scrollTop += 120;
  else if (frame < 250) view.scrollTop = (view.scrollHeight * (frame - 150)) / 100;
  else if (frame < 300) press(frame % 2 ? "PageUp" : "n");
  else if (frame < 350) {
    const clientY = box.top + (box.height * (frame - 300)) / 50;
    strip.dispatchEvent(new PointerEvent("pointermove", { buttons: 1, clientY }));
  } else return setTimeout(() => done([Math.max(0, ...tasks), worst]), 200);
  frame++;
  requestAnimationFrame(step);
};
requestAnimationFrame(step);
"""


def main(name: str, *lengths: str) -> None:
    """Print a line for each length."""
    text = Path(name).read_bytes()
    heads = "bytes", "command s", "page bytes", "open s", "longest task ms", "longest frame ms"
    print(*heads, sep="  ")
    with browser() as driver, tempfile.TemporaryDirectory() as folder:
        for n_bytes in map(int, lengths or ("200000", "2000000")):
            source, page_path = Path(folder) / "text", Path(folder) / f"{n_bytes}.html"
            source.write_bytes(text[:n_bytes])
            begin = time.perf_counter()
            told = cli_support.run("chunker", "surprise", source, "--html", page_path)
            if told.returncode:
                sys.exit(told.stderr.decode())
            seconds = time.perf_counter() - begin
            page = Page(driver, page_path)
            opened = page.run("return performance.getEntriesByName('ready')[0].startTime") / 1000
            driver.set_script_timeout(300)
            task, frame = driver.execute_async_script(SCROLL)
            size = page_path.stat().st_size
            longest = f"{task:.0f}" if task else "below 50"
            row = (
                f"{source.stat().st_size:,}",
                f"{seconds:.1f}",
                f"{size:,}",
                f"{opened:.2f}",
                longest,
                f"{frame:.0f}",
            )
            print(*(cell.rjust(len(head)) for cell, head in zip(row, heads, strict=True)), sep="  ")


if __name__ == "__main__":
    main(*sys.argv[1:])
