"""Makes the word lists of the samples from a corpus.

    python .build/words.py SOURCES CORPUS [FOLDER]

SOURCES is a list as of `chunker train --list`, such as chunker/models/sources.tsv; CORPUS the folder of its
paths; FOLDER chunker/codec/samples unless given. NAME.words there, for each kind, gets the commonest words of
those of its sources that are used in training.

A word's rank is the sum, over sources, of the square root of the share of a source's stretches in which it
occurs: the more, the more files will have it, and rather those of many sources. Chinese and Japanese have no
spaces; there the commonest pieces of 2 to 8 characters take the place of words, without those that are mostly
part of one.
"""

from __future__ import annotations

import csv
import lzma
import re
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

MOST_BYTES = 50_000  # of a list
SOURCE_BYTES = 3_000_000  # of a source, the first ones
STRETCH, FEWEST_STRETCHES = 4000, 8  # characters; a source that has fewer has less to say
LEAST_BYTES, MOST_CHARACTERS = 3, 40  # of a word
SOURCES_OR_STRETCHES = 2, 4  # in which a word has to occur
WITHIN = 0.5  # a piece that occurs so often as part of the same longer one is left out

MARKS = "\u0300-\u036f\u064b-\u065f\u0900-\u0963\u200c"  # which stand behind letters
WORD = re.compile(rf"[^\W\d_](?:[^\W\d_]|[{MARKS}]|['\u2019](?=[^\W\d_]))*")
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
RUN = re.compile(r"[\u3400-\u9fff々\u3040-\u30ff]+")
PIECES = range(2, 9)

Kind = tuple[re.Pattern[str], tuple[str, ...]]
"""What counts as a word, and the sources' names."""


def language(code: str, words: re.Pattern[str] = WORD) -> Kind:
    return words, (f"text-{code}-*", f"prose-{code}-*")


def names(*sources: str) -> Kind:
    return NAME, tuple(f"{each}-*" for each in sources)


KINDS: dict[str, Kind] = {
    "english-prose": language("en"),
    "english-docs": (WORD, ("docs-*",)),
    "german": language("de"),
    "french": language("fr"),
    "spanish": language("es"),
    "italian": language("it"),
    "portuguese": language("pt"),
    "russian": language("ru"),
    "japanese": language("ja", RUN),
    "chinese": language("zh", RUN),
    "c": names("code-c", "code-cpp"),
    "python": names("code-python"),
    "go": names("code-go"),
    "java": names("code-java", "code-kotlin"),
    "rust": names("code-rust"),
    "javascript": names("code-javascript", "code-typescript"),
    "html": names("code-html"),
    "json": names("data-json", "data-jsonl"),
    "config": names("data-yaml", "data-toml", "data-ini"),
    "log": names("logs"),
    "dutch": language("nl"),
    "polish": language("pl"),
    "turkish": language("tr"),
    "ukrainian": language("uk"),
    "korean": language("ko"),
    "arabic": language("ar"),
    "shell": names("code-shell"),
    "ruby": names("code-ruby"),
    "php": names("code-php"),
    "csharp": names("code-csharp"),
    "css": names("code-css"),
    "sql": names("code-sql"),
    "xml": names("data-xml", "data-svg"),
    "latex": names("code-latex"),
    "swedish": language("sv"),
    "danish": language("da"),
    "finnish": language("fi"),
    "czech": language("cs"),
    "hungarian": language("hu"),
    "romanian": language("ro"),
    "greek": language("el"),
    "hebrew": language("he"),
    "persian": language("fa"),
    "hindi": language("hi"),
    "indonesian": language("id"),
    "vietnamese": language("vi"),
}


def words_of(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Each word and where it begins."""
    for match in pattern.finditer(text):
        if pattern is not RUN:
            yield match.start(), match[0]
            continue
        run = match[0]
        for n in PIECES:
            yield from ((match.start() + at, run[at : at + n]) for at in range(len(run) - n + 1))


def ranked(texts: list[str], pattern: re.Pattern[str]) -> list[str]:
    """The words of a kind, the commonest first."""
    score: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    stretches: Counter[str] = Counter()
    for text in texts:
        found = Counter(word for _, word in {(at // STRETCH, word) for at, word in words_of(text, pattern)})
        for word, count in found.items():
            score[word] += (count / max(len(text) / STRETCH, FEWEST_STRETCHES)) ** 0.5
        stretches.update(found)
        sources.update(found.keys())
    least_sources, least_stretches = SOURCES_OR_STRETCHES
    common = {w for w in score if sources[w] >= least_sources or stretches[w] >= least_stretches}
    left_out: set[str] = set()
    if pattern is RUN:
        for word in common:
            left_out |= {part for part in (word[1:], word[:-1]) if score[word] >= WITHIN * score[part]}
    elif pattern is WORD:  # of `The` and `the` the commoner one
        left_out = {word for word in common if word != word.lower() and score[word.lower()] >= score[word]}

    def fits(word: str) -> bool:
        return 1 < len(word) <= MOST_CHARACTERS and len(word.encode()) >= LEAST_BYTES

    return sorted(filter(fits, common - left_out), key=lambda word: (-score[word], word))


def listed(words: list[str]) -> str:
    """A line each, as many as are allowed; the commonest at the end, where it is remembered best."""
    size, lines = 0, []
    for word in words:
        size += len(word.encode()) + 1
        if size > MOST_BYTES:
            break
        lines.append(word + "\n")
    return "".join(reversed(lines))


def read(path: Path) -> str:
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
        return file.read(SOURCE_BYTES).decode("utf-8", "ignore")


def main(sources: str, corpus: str, folder: str = "chunker/codec/samples") -> None:
    with open(sources, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        training = [row["path"] for row in rows if row["use"] == "train"]
    for name, (pattern, wanted) in KINDS.items():
        paths = [Path(corpus) / path for path in training if any(fnmatch(path, each) for each in wanted)]
        words = ranked([read(path) for path in paths], pattern)
        text = listed(words)
        (Path(folder) / f"{name}.words").write_bytes(text.encode())
        print(f"{name}: {len(paths)} sources, {len(text.split()):,} of {len(words):,} words")


if __name__ == "__main__":
    main(*sys.argv[1:])
