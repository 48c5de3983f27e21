"""The page of `chunker surprise --html`: what stands in it, without a browser."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import random
import shutil
import subprocess
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import cli_support
import pytest
from page_support import Elements, Figures, figures_of, links
from test_surprise_command import ODD

import chunker
import chunker.views.page as pages
from chunker.cli.surprise import surprise
from chunker.codec import samples
from chunker.codec.frames import MAX_BLOCK_BYTES
from chunker.codec.tracing import trace as codec_trace
from chunker.core.backend import GATE_ALWAYS, Contexts, Progress, Settings, Stop, backend
from chunker.errors import UsageError
from chunker.views import bins
from chunker.views.characters import Characters, decode, kind_of, name_of, needs_name, reached

call = functools.partial(cli_support.call, surprise)
SCRIPT = Path(pages.__file__).with_name("page.js")


def page_of(text: bytes, tmp_path: Path, *options: str, name: str = "text") -> bytes:
    (tmp_path / name).write_bytes(text)
    call(str(tmp_path / name), "--html", str(tmp_path / "out.html"), "-f", *options)
    return (tmp_path / "out.html").read_bytes()


def log(lines: int) -> bytes:
    draw = random.Random(0)
    return b"".join(
        b"%d INFO node %d: all is well\n" % (1000 + at, draw.randint(0, 9)) for at in range(lines)
    )


# ---- figures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [True, False])
def test_displayed_bits_are_the_payload(tmp_path, tiny_model, best):
    text = log(300)
    options = ["--best", "-m", str(tiny_model.path)] if best else ["--no-model"]
    figures = figures_of(page_of(text, tmp_path, *options))
    settings = Settings(Contexts.ALL, GATE_ALWAYS) if best else Settings(Contexts.MANY, 0)
    known = samples.text(samples.number_for(text, settings, MAX_BLOCK_BYTES))
    job = (settings, tiny_model if best else None, len(text), Stop(), Progress())
    payload = backend().encode(text, *job, known)
    assert payload is not None
    assert sum(figures.bits) / 8 == pytest.approx(len(payload), rel=0.005)
    assert (tmp_path / "out.html").stat().st_size <= max(pages.MOST_TIMES * len(text), 2 * pages.FRAME_BYTES)


def test_hundredths_sum_to_the_bits():
    bits = array("f", [0.003] * 1000)
    rounded = pages.hundredths(bits)
    assert sum(rounded) == 300
    assert set(rounded) == {0, 1}


def test_figures_of_every_character(tmp_path, tiny_model):
    figures = figures_of(page_of(ODD, tmp_path, "-m", str(tiny_model.path)))
    assert figures.data == ODD
    assert figures.facts["characters"] == len(ODD.decode("utf-8", "surrogateescape"))
    assert len(figures.level_bits) == 2
    assert max(flag >> 5 for flag in figures.flags) in (1, 2)
    for bits, flag in zip(figures.level_bits[0], figures.flags, strict=True):
        assert (bits == pages.ASLEEP / 100) == (flag >> 5 == 0)


def test_ranks_and_guesses_are_those_of_the_core(tmp_path, tiny_model):
    text = "Return the value of the argument. Größe?\n".encode()
    figures = figures_of(page_of(text, tmp_path, "-m", str(tiny_model.path)))
    trace = codec_trace(text, model=tiny_model, rank_from=pages.RANK_FROM_BITS, workers=2)
    starts = decode(text, trace.bits).starts
    ranked = [begin + part - 1 for begin, part in zip(starts, figures.ranked, strict=False) if part]
    assert [at for at, bits in enumerate(trace.bits) if bits >= 2 and text[at] < 128] == [
        at for at in ranked if text[at] < 128
    ]
    assert figures.ranks == [trace.ranks[at] for at in ranked]
    for at, guesses in zip(ranked, figures.guesses_of, strict=True):
        assert [byte for byte, _, _ in guesses] == [*trace.best[5 * at : 5 * at + 5]]
        assert [level for _, _, level in guesses] == [*trace.best_levels[5 * at : 5 * at + 5]]
        for (_, bits, _), exact in zip(guesses, trace.best_bits[5 * at : 5 * at + 5], strict=True):
            assert bits == pytest.approx(exact, abs=1 / 32)


def test_a_page_of_noise_tells_fewer_guesses_rather_than_being_too_large(tmp_path):
    draw = random.Random(0)
    text = "".join(draw.choices("0123456789abcdef", k=20_000)).encode()
    page = page_of(text, tmp_path, "--no-model")
    figures = figures_of(page)
    assert len(page) <= pages.MOST_TIMES * len(text)
    assert figures.facts["rankFrom"] > pages.RANK_FROM_BITS
    assert f"of characters of {figures.facts['rankFrom']:g} bits" in page.decode()
    assert figures.facts["ranked"] < len(text)


def test_parts_of_a_block_are_traced_as_a_whole(tiny_model):
    """Two threads look into a block of which ranks are asked for."""
    text = log(40)
    one, two = (codec_trace(text, model=tiny_model, detail=True, rank_from=4, workers=k) for k in (1, 2))
    assert [bytes(each) for each in vars(one).values()] == [bytes(each) for each in vars(two).values()]


def test_two_models(tmp_path, tiny_model):
    options = ["-m", str(tiny_model.path), "--against", "none"]
    page = page_of(b"Return the value of the argument.\n" * 3, tmp_path, *options)
    figures = figures_of(page)
    assert figures.other_bits is not None
    assert sum(figures.other_bits) > sum(figures.bits)
    assert figures.facts["models"] == ["tiny", "contexts alone"]
    assert list(bins.DIFFERENCE_EDGES_BITS) == figures.facts["edges"]


def test_characters_of_several_bytes():
    found = decode(
        "aé\n".encode() + b"\xff",
        [1, 2, 3, 4, 5],
        reach=bytes([0, 1, 2, 0, 1]),
        guesses=[97, 256, 0, 10, 255],
        confidences=bytes([3, 0, 1, 2, 4]),
        level_bits=[1, 2, 3, float("nan"), 5],
    )
    assert found.bits.tolist() == [1, 5, 4, 5]
    assert found.reach == bytes([0, 2, 0, 1])
    assert (found.guesses, found.confidences) == (bytes([97, 0, 10, 255]), bytes([3, 0, 2, 4]))
    assert str(found.level_bits[0].tolist()) == "[1.0, 5.0, nan, 5.0]"
    assert found.data == "aé\n".encode() + b"\xff"


def test_what_reached_level_2_is_what_it_took_in():
    """Level 2 moves before byte 4: it takes in byte 2, the last one at which level 1 was awake."""
    assert reached(bytes([1, 0, 1, 0, 2, 1])) == bytes([1, 0, 2, 0, 1, 1])


def test_a_text_that_is_too_long():
    text = Characters("", array("I", [0, pages.MOST_BYTES + 1]), array("f"))
    with pytest.raises(UsageError, match="--from and --to"):
        pages.page(text, pages.About("text"))


# ---- safety --------------------------------------------------------------------------------------------

HOSTILE = b"</script><script>alert(1)</script><img src=x onerror=alert(2)><!-- \x1b]0;x\x07 --></style>"


def test_nothing_of_a_text_is_markup(tmp_path):
    page = page_of(HOSTILE, tmp_path, "--no-model", name="<img src=x onerror=alert(3)> <!-- DATA -->")
    plain = Elements(page_of(b"harmless", tmp_path, "--no-model").decode())
    found = Elements(page.decode())
    cells = ("tr", "th", "td")  # a row for each kind of characters
    tags, expected = ([tag for tag, _ in each.opened if tag not in cells] for each in (found, plain))
    assert tags == expected
    assert b"alert" not in page.replace(b"&lt;img src=x onerror=alert(3)&gt; &lt;!-- DATA --&gt;", b"")
    assert figures_of(page).data == HOSTILE


def test_the_policy_allows_the_pages_own_script_and_style_alone(tmp_path):
    found = Elements(page_of(b"text", tmp_path, "--no-model").decode())
    digests = {
        kind: "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in (("script", found.text["script"][-1]), ("style", found.text["style"][0]))
    }
    assert found.policy == (
        f"default-src 'none'; style-src '{digests['style']}'; script-src '{digests['script']}'"
    )
    assert not [
        attributes for _, attributes in found.opened if any(name.startswith("on") for name in attributes)
    ]
    assert not [attributes for _, attributes in found.opened if "style" in attributes]


def test_the_page_asks_for_nothing(tmp_path):
    assert not links(page_of(b"text", tmp_path, "--no-model").decode())


def test_an_old_page_is_kept(tmp_path):
    (tmp_path / "text").write_text("text")
    (tmp_path / "out.html").write_text("old")
    names = str(tmp_path / "text"), "--html", str(tmp_path / "out.html"), "--fast"
    assert "-f" in call(*names, code=1).stderr
    assert (tmp_path / "out.html").read_text() == "old"
    call(*names, "-f")
    assert (tmp_path / "out.html").read_text() != "old"


# ---- what can be read without a script -----------------------------------------------------------------


def test_totals(tmp_path):
    page = page_of("Ab 12, é\n".encode(), tmp_path, "--no-model").decode()
    cells = [row.split("<td>") for row in page.split("<tr><th scope=row>")[1:]]
    counts = {name: count for name, count, *_ in cells}
    assert counts == {"letters": "3", "digits": "2", "spaces": "2", "line ends": "1", "punctuation": "1"}
    assert sum(float(share.rstrip("%")) for _, _, _, share, _ in cells) == pytest.approx(100, abs=0.5)


@pytest.mark.parametrize(
    ("characters", "kind"),
    [
        ("aéß中\u0301", "letters"),
        ("7½", "digits"),
        (" \t\xa0", "spaces"),
        ("\r\n", "line ends"),
        (".€", "punctuation"),
    ],
)
def test_kinds(characters, kind):
    assert {kind_of(each) for each in characters} == {kind}


# ---- colours -------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [bins.LIGHT, bins.DARK], ids=["light", "dark"])
def test_colours_can_be_read_and_told_apart_by_lightness(palette):
    for colour in palette.surprise + palette.difference:
        assert contrast(colour.background, colour.text) >= 4.5
    lightness = [luminance(colour.background) for colour in palette.surprise]
    assert lightness == sorted(lightness, reverse=palette is bins.LIGHT)
    steps = zip(palette.surprise[:-1], palette.surprise[1:], strict=True)
    assert min(contrast(a.background, b.background) for a, b in steps) > 1.1


def test_bins():
    assert [bins.bin_of(bits) for bits in (0, 0.5, 0.99, 4, 100)] == [0, 1, 1, 4, 5]
    assert [bins.difference_bin_of(bits) for bits in (-9, -1, 0, 0.5, 2)] == [0, 1, 2, 3, 4]
    assert bins.labels(bins.EDGES_BITS)[::5] == ["below 0.5", "8 or more"]


# ---- the script, where there is node -------------------------------------------------------------------


def in_node(page: bytes, code: str) -> Any:
    """What `code` makes of `text` and `facts`, with the functions of the page's script."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    figures = figures_of(page)
    columns = base64.b64decode(Elements(page.decode()).text["script"][1])
    program = (
        SCRIPT.read_text(encoding="utf-8")
        + f"\nconst facts = {json.dumps(figures.facts)};"
        + "const packed = require('fs').readFileSync(0);"
        + "const text = unpack(new Uint8Array(require('zlib').inflateSync(packed)), facts);"
        + f"process.stdout.write(JSON.stringify((() => {{ {code} }})()));"
    )
    done = subprocess.run([node, "-e", program], input=columns, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_the_script_names_characters_as_the_terminal_does(tmp_path):
    page = page_of(ODD, tmp_path, "--no-model")
    found = in_node(page, "return Array.from({length: text.n}, (_, i) => glyphOf(text, i));")
    text = ODD.decode("utf-8", "surrogateescape")
    assert found == [
        "\u21b5" if each == "\n" else name_of(each) if needs_name(each) else each for each in text
    ]


@pytest.mark.parametrize("columns", [20, 33, 200])
def test_rows_hold_every_character_once(tmp_path, columns):
    """Rows begin where lines do, fit, and go on after what is folded."""
    page = page_of(log(100) + b"the same line again and again\n" * 400, tmp_path, "--no-model")
    code = f"""const folds = foldsOf(text); return [folds, layOut(text, {columns}, folds), text.lines,
               layOut(text, {columns}, [])];"""
    folds, rows, lines, unfolded = in_node(page, code)
    bits = figures_of(page).bits
    assert folds
    for begin, end in folds:
        assert end - begin >= 64
        assert max(bits[begin:end]) < 1
    assert rows == sorted(set(rows))
    inside = {at for begin, end in folds for at in range(begin + 1, end)}
    assert not inside & set(rows)
    assert set(lines) - inside - {begin for begin, _ in folds} <= set(rows)
    assert set(lines) <= set(unfolded)
    assert max(b - a for a, b in pairwise(unfolded)) <= columns


def test_the_script_finds(tmp_path):
    page = page_of(b"to be or not to be", tmp_path, "--no-model")
    code = """const find = (word, i) => findFrom(text, new TextEncoder().encode(word), i);
              return [find("be", 0), find("be", 3), find("be", 16), find("x", 0), find("", 0),
                      surpriseFrom(text, 0, 1, 1), surpriseFrom(text, 0, 1, 100)];"""
    assert in_node(page, code) == [3, 16, 3, -1, -1, 0, -1]


def test_the_script_describes(tmp_path, tiny_model):
    page = page_of("tété\n\x01".encode(), tmp_path, "-m", str(tiny_model.path))
    figures: Figures = figures_of(page)
    pairs = [dict(in_node(page, f"return describe(text, facts, {i});")) for i in (1, 5)]
    assert pairs[0]["character"] == "é U+00E9"
    assert pairs[0]["bits"] == f"{figures.bits[1]:.2f}"
    assert pairs[0]["at"] == "line 1, column 2, byte 1"
    assert pairs[1]["character"] == "^A U+0001"
    assert pairs[1]["at"] == "line 2, column 1, byte 7"


def test_the_script_tells_ranks_and_guesses(tmp_path, tiny_model):
    page = page_of("Größe, Größe\n".encode(), tmp_path, "-m", str(tiny_model.path))
    figures = figures_of(page)
    code = "return Array.from({length: text.n}, (_, i) => [guessesOf(text, i), rankOf(text, i)]);"
    told, at = in_node(page, code), 0
    for (guesses, rank), part, bits in zip(told, figures.ranked, figures.bits, strict=True):
        assert bool(guesses) == (part > 0)
        if not part:
            assert rank == "1" if bits < 1 else rank.startswith("at most")
            continue
        assert int(rank.split()[0]) == figures.ranks[at]
        assert [guess["bits"] for guess in guesses] == [bits for _, bits, _ in figures.guesses_of[at]]
        assert [guess["level"] for guess in guesses] == [level for _, _, level in figures.guesses_of[at]]
        assert [guess["came"] for guess in guesses] == [k + 1 == figures.ranks[at] for k in range(5)]
        at += 1
    assert at == len(figures.ranks)
    code = "return [[0xc3, 0xb6], [0xc3], [0x80], [97], [32], [10], [0xe2, 0x80, 0xae], [0xff]]"
    assert in_node(page, code + ".map(nameOfBytes);") == [
        "ö",
        "<C3>",
        "<80>",
        "a",
        "space",
        "line end",
        "<E2><80><AE>",
        "<FF>",
    ]


def test_the_documents_and_the_script_agree_on_the_payload(tmp_path):
    """As `chunker.compress` does, up to its frame."""
    text = log(400)
    bits = sum(figures_of(page_of(text, tmp_path, "--no-model")).bits)
    archive = chunker.compress(text, preset=Settings(Contexts.MANY, 0))
    assert 0 <= len(archive) - bits / 8 < 40
