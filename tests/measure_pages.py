"""How a page of `chunker surprise --html` does in Chromium.

    python tests/measure_pages.py FILE [BYTES ..] [OPTIONS]
    python tests/measure_pages.py PAGE.html

The first BYTES of FILE are taken, by default 200,000 and 2,000,000; OPTIONS go to the command, such as
--no-model. Or a page that was made before is looked at.

A line for each length: seconds that the command took, size of the page, milliseconds from the start of its
opening to where the text is drawn, and the longest task of the page's thread while it is scrolled from its
beginning to its end as a wheel does it, by keys, and by jumps on the strip. Behind each time stands the
processor time, which tells more where a machine is busy otherwise.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # or Python finds the folder of this file alone

import cli_support
from browser_support import Page, browser, tasks

SCROLL = """
const view = document.getElementById("view"), strip = document.getElementById("strip");
const box = strip.getBoundingClientRect();
const press = (key) => view.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
let frame = 0;
const step = () => {
  if (frame < 60) view.scrollTop += 120;
  else if (frame < 120) view.scrollTop = (view.scrollHeight * (frame - 60)) / 60;
  else if (frame < 150) press(frame % 2 ? "PageUp" : "n");
  else if (frame < 180) {
    const clientY = box.top + (box.height * (frame - 150)) / 30;
    strip.dispatchEvent(new PointerEvent("pointermove", { buttons: 1, clientY }));
  } else return (view.dataset.scrolled = "yes");
  frame++;
  requestAnimationFrame(step);
};
requestAnimationFrame(step);
"""


def processor_seconds() -> float:
    """Of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make(source: Path, page_path: Path, options: list[str]) -> str:
    """Make a page; returns the seconds that it took."""
    begin, before = time.perf_counter(), processor_seconds()
    told = cli_support.run("chunker", "surprise", source, "--html", page_path, *options)
    if told.returncode:
        sys.exit(told.stderr.decode())
    return f"{time.perf_counter() - begin:.1f} ({processor_seconds() - before:.1f})"


def look(page_path: Path) -> tuple[str, ...]:
    """Size of a page, and how it opens and scrolls."""
    with browser(traced=True) as driver:
        page = Page(driver, page_path)
        opened = page.run("return performance.getEntriesByName('ready')[0].startTime")
        page.run(SCROLL)
        page.wait("return document.getElementById('view').dataset.scrolled")
        opening, scrolling = tasks(driver)
    work = sum(task.processor for task in opening)
    longest, dearest = max(task.wall for task in scrolling), max(task.processor for task in scrolling)
    return (
        f"{page_path.stat().st_size:,}",
        f"{opened:.0f} ({work:.0f})",
        f"{longest:.0f} ({dearest:.0f})",
    )


def main(name: str, *arguments: str) -> None:
    """Print a line for each length."""
    lengths = [each for each in arguments if each.isdecimal()]
    options = [each for each in arguments if not each.isdecimal()]
    heads = "bytes    ", "command, s ", "page, bytes", "opening, ms", "longest task, ms"
    print(*heads, sep="  ")

    def row(*cells: str) -> None:
        print(*(cell.rjust(len(head)) for cell, head in zip(cells, heads, strict=True)), sep="  ", flush=True)

    if name.endswith(".html"):
        row("", "", *look(Path(name)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for n_bytes in lengths or ("200000", "2000000"):
            source = Path(folder) / "text"
            source.write_bytes(Path(name).read_bytes()[: int(n_bytes)])
            page_path = Path(folder) / f"{n_bytes}.html"
            seconds = make(source, page_path, options)
            row(f"{source.stat().st_size:,}", seconds, *look(page_path))


if __name__ == "__main__":
    main(*sys.argv[1:])
