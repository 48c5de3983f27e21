"use strict";

/* ---- the text and its figures: nothing below needs a document until the last part ---- */

const ASLEEP = 65535, HUNDREDTHS = 100, GUESS_BITS = 16;
const FOLDS_FROM = 10000; // characters of a text
const FOLD_LEAST = 64, FOLD_MARGIN = 16; // characters of a stretch, and how many of it stay at either end
const EXPECTED_BITS = 1, ALIKE_BITS = 0.5; // below: a character is expected; two models agree
const TAB = 8;

/** Columns of figures, as page.py describes them; n characters. */
function unpack(bytes, facts) {
  const n = facts.characters;
  let at = facts.bytes;
  const take = () => bytes.subarray(at, (at += n));
  const wide = () => {
    const low = take(), high = take(), out = new Uint16Array(n);
    for (let i = 0; i < n; i++) out[i] = low[i] | (high[i] << 8);
    return out;
  };
  const text = { n, data: bytes.subarray(0, facts.bytes), flags: take(), starts: new Uint32Array(n + 1) };
  for (let i = 0; i < n; i++) text.starts[i + 1] = text.starts[i] + (text.flags[i] & 3) + 1;
  text.bits = wide();
  text.other = facts.compared ? wide() : null;
  text.guesses = facts.detail ? take() : null;
  text.sure = facts.detail ? take() : null;
  text.levels = Array.from({ length: facts.levels }, wide);
  text.ranked = facts.guesses ? take() : new Uint8Array(n);
  const short = () => bytes.subarray(at, (at += facts.ranked));
  text.ranks = short();
  text.guess = Array.from({ length: facts.guesses }, () => ({ byte: short(), bits: Uint16Array.from(short()), level: short() }));
  for (let k = 1; k < facts.guesses; k++) text.guess[k].bits.forEach((_, j, bits) => (bits[j] += text.guess[k - 1].bits[j]));
  text.rankAt = new Uint32Array(n + 1); // of each character: its place in these columns
  for (let i = 0; i < n; i++) text.rankAt[i + 1] = text.rankAt[i] + (text.ranked[i] > 0);
  text.edges = facts.edges;
  text.lines = lineStarts(text);
  text.firstLine = facts.line;
  return text;
}

/** What a character's colour shows, in bits: its surprise, or how many more the other model needs. */
function valueOf(text, i) {
  return (text.other ? text.other[i] - text.bits[i] : text.bits[i]) / HUNDREDTHS;
}

function binOf(value, edges) {
  let bin = 0;
  while (bin < edges.length && value >= edges[bin]) bin++;
  return bin;
}

function codeOf(text, i) {
  const at = text.starts[i], d = text.data;
  switch (text.flags[i] & 3) {
    case 0: return d[at];
    case 1: return ((d[at] & 31) << 6) | (d[at + 1] & 63);
    case 2: return ((d[at] & 15) << 12) | ((d[at + 1] & 63) << 6) | (d[at + 2] & 63);
    default: return ((d[at] & 7) << 18) | ((d[at + 1] & 63) << 12) | ((d[at + 2] & 63) << 6) | (d[at + 3] & 63);
  }
}

const hex = (code, digits) => code.toString(16).toUpperCase().padStart(digits, "0");

/** A character that moves a cursor or shows nothing is shown by name, as `less` does. */
function glyphOf(text, i) {
  const code = codeOf(text, i), flags = text.flags[i];
  if (flags & 4) return `<${hex(code, 2)}>`;
  if (code === 10) return "\u21b5";
  if (code === 27) return "ESC";
  if (code < 32 || code === 127) return "^" + String.fromCharCode(code ^ 64);
  return (flags >> 3 & 3) === 3 ? `<U+${hex(code, 4)}>` : String.fromCodePoint(code);
}

function endsLine(text, i) {
  const at = text.starts[i], byte = text.data[at];
  return byte === 10 || (byte === 13 && text.data[at + 1] !== 10);
}

function lineStarts(text) {
  const starts = [0];
  for (let i = 0; i + 1 < text.n; i++) if (endsLine(text, i)) starts.push(i + 1);
  return starts;
}

/** The last of the rising numbers that is not above x: its place. */
function placeOf(rising, x) {
  let low = 0, high = rising.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (rising[middle] <= x) low = middle;
    else high = middle;
  }
  return low;
}

/** Columns that a character takes, if it stands in that column of its row. */
function cellsOf(text, i, column) {
  const width = text.flags[i] >> 3 & 3;
  if (width < 3) return width;
  const byte = text.data[text.starts[i]];
  return byte === 9 ? TAB - (column % TAB) : byte === 10 ? 1 : glyphOf(text, i).length;
}

/** Stretches of expected characters, [begin, end) each, in order; none in a short text. */
function foldsOf(text) {
  const folds = [];
  if (text.n < FOLDS_FROM) return folds;
  const limit = text.other ? ALIKE_BITS : EXPECTED_BITS;
  for (let i = 0, begin = 0; i <= text.n; i++) {
    if (i < text.n && Math.abs(valueOf(text, i)) < limit) continue;
    const from = begin && begin + FOLD_MARGIN, to = i < text.n ? i - FOLD_MARGIN : i;
    if (to - from >= FOLD_LEAST) folds.push([from, to]);
    begin = i + 1;
  }
  return folds;
}

const foldLabel = (fold) => `${(fold[1] - fold[0]).toLocaleString("en")} expected characters`;

/** Where each row on the screen begins: rows of so many columns, with those stretches folded. */
function layOut(text, columns, folds) {
  const rows = [0];
  let column = 0, next = 0;
  const begin = (i) => { if (i < text.n) rows.push(i), (column = 0); };
  for (let i = 0; i < text.n;) {
    if (next < folds.length && folds[next][0] === i) {
      const fold = folds[next++], width = foldLabel(fold).length + 2;
      if (column && column + width > columns) begin(i);
      column += width;
      i = fold[1];
      if (placeOf(text.lines, fold[0]) !== placeOf(text.lines, i)) begin(i);
      continue;
    }
    const width = cellsOf(text, i, column);
    if (column && column + width > columns) {
      begin(i);
      continue;
    }
    column += width;
    i++;
    if (endsLine(text, i - 1)) begin(i);
  }
  return rows;
}

/** The next character from i on, or before it, whose value is that far from 0; -1: there is none. */
function surpriseFrom(text, i, step, least) {
  for (; i >= 0 && i < text.n; i += step) if (Math.abs(valueOf(text, i)) >= least) return i;
  return -1;
}

/** The next place of some bytes after character i, and then from the beginning; -1: there is none. */
function findFrom(text, wanted, i) {
  const { data } = text, from = i < 0 ? 0 : text.starts[i] + 1, last = data.length - wanted.length;
  for (let k = 0; wanted.length && k <= last; k++) {
    let at = from + k;
    if (at > last) at -= last + 1;
    if (at < 0 || at > last) continue;
    let same = 0;
    while (same < wanted.length && data[at + same] === wanted[same]) same++;
    if (same === wanted.length) return placeOf(text.starts, at);
  }
  return -1;
}

function chance(bits) {
  const p = 2 ** -bits;
  return p >= 0.0995 ? `${(100 * p).toFixed(0)} %` : `1 in ${Math.round(1 / p).toLocaleString("en")}`;
}

/** The likeliest bytes in place of one of a character's, the likeliest first: { name, bits, came, level }. Where it is the
 * last byte of a character, the name is that of the whole character. */
function guessesOf(text, i) {
  const k = text.rankAt[i], part = text.ranked[i], begin = text.starts[i], own = text.data[begin + part - 1];
  if (!part) return [];
  const before = [...text.data.subarray(begin, begin + part - 1)];
  return text.guess.map((guess) => {
    const byte = guess.byte[k], level = guess.level[k];
    return { name: nameOfBytes([...before, byte]), bits: guess.bits[k] / GUESS_BITS, came: byte === own, level };
  });
}

function nameOfBytes(bytes) {
  const byte = bytes[bytes.length - 1];
  if (bytes.length === 1 && byte < 128) return nameOfByte(byte);
  try {
    const character = new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(bytes));
    if (!/[\p{C}\p{Z}]/u.test(character)) return character;
  } catch { /* the beginning of a character, or none */ }
  return bytes.map((each) => `<${hex(each, 2)}>`).join("");
}

const sourceOf = (level) => (level ? (level > 1 ? `levels 1 to ${level}` : "level 1") : "contexts");

/** Its rank: exact where it was looked for, and else as far as its probability tells. */
function rankOf(text, i) {
  const part = text.ranked[i], bits = text.bits[i] / HUNDREDTHS, size = (text.flags[i] & 3) + 1;
  if (part) return `${text.ranks[text.rankAt[i]] + 1}${size > 1 ? ` (byte ${part} of its ${size})` : ""}`;
  const most = Math.floor(2 ** bits); // fewer than 1/p others can each have more than p
  return most < 2 ? "1" : `at most ${most.toLocaleString("en")}`;
}

function nameOf(text, i) {
  const code = codeOf(text, i);
  const name = { 9: "tab", 10: "line end", 13: "carriage return", 32: "space" }[code] || glyphOf(text, i);
  return text.flags[i] & 4 ? `${name} (a byte that is no UTF-8)` : `${name} U+${hex(code, 4)}`;
}

/** What is known of a character: pairs of a label and a value. */
function describe(text, facts, i) {
  const line = placeOf(text.lines, i), bits = text.bits[i] / HUNDREDTHS, pairs = [];
  const two = (x) => (x / HUNDREDTHS).toFixed(2);
  pairs.push(["character", nameOf(text, i)]);
  if (text.other) {
    pairs.push([`bits, ${facts.models[0]}`, two(text.bits[i])], [`bits, ${facts.models[1]}`, two(text.other[i])]);
    pairs.push(["difference", valueOf(text, i).toFixed(2)]);
  } else {
    pairs.push(["bits", bits.toFixed(2)], ["probability", chance(bits)]);
  }
  pairs.push([text.other ? `rank, ${facts.models[0]}` : "rank", rankOf(text, i)]);
  if (facts.detail) {
    const byte = text.guesses[i], sure = text.sure[i];
    const guess = byte === text.data[text.starts[i]] ? "this" : byte < 128 ? nameOfByte(byte) : `byte <${hex(byte, 2)}>`;
    pairs.push(["the contexts expected", sure ? `${guess}, sure ${sure} of 15` : "nothing"]);
  }
  text.levels.forEach((level, k) => {
    const name = k ? `levels 1 to ${k + 1} alone` : "level 1 alone";
    pairs.push([name, level[i] === ASLEEP ? "slept" : `${two(level[i])} bits`]);
  });
  const reach = text.flags[i] >> 5;
  if (facts.reach) pairs.push(["reached", reach ? `level ${reach}` : "the contexts alone"]);
  pairs.push(["at", `line ${line + text.firstLine}, column ${i - text.lines[line] + 1}, byte ${text.starts[i]}`]);
  return pairs;
}

function nameOfByte(byte) {
  const named = { 9: "tab", 10: "line end", 13: "carriage return", 27: "ESC", 32: "space" }[byte];
  return named || (byte < 32 || byte === 127 ? "^" + String.fromCharCode(byte ^ 64) : String.fromCharCode(byte));
}

/* ---- the page ---- */

const LINE = 20, LEVEL_LINE = 18, GAP = 2; // pixels; as in page.css
const TALLEST = 8e6; // pixels that every browser can scroll
const SPARE = 6; // rows drawn beyond the edges

async function inflate(base64) {
  const packed = atob(base64), bytes = new Uint8Array(packed.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function start(text, facts) {
  const $ = (id) => document.getElementById(id);
  const view = $("view"), lines = $("lines"), strip = $("strip"), panel = $("panel"), guesses = $("guesses");
  const opened = new Set(), drawn = new Map();
  let folds = [], foldBegins = [], rows = [0], rowHeight = LINE, cursor = 0, waiting = false, picture = null, shown = -1;

  function make(tag, name, content) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (content !== undefined) element.textContent = content;
    return element;
  }

  function cellWidth() {
    const probe = view.appendChild(make("span", "", "0".repeat(100)));
    probe.id = "probe";
    const width = probe.getBoundingClientRect().width / 100;
    probe.remove();
    return width || 8;
  }

  const levelRows = () => ($("rows").checked ? facts.reach : 0);
  const total = () => rows.length * rowHeight;
  const space = () => Math.min(total(), TALLEST);
  /* Pixels of text for a pixel of the scroll bar: 1 unless the text is taller than a browser can scroll. */
  const scale = () => Math.max(1, (total() - view.clientHeight) / Math.max(1, space() - view.clientHeight));
  const firstRow = () => (view.scrollTop * scale()) / rowHeight;

  function lay() {
    const columns = Math.max(20, Math.floor((view.clientWidth - 10) / cellWidth()) - 9);
    folds = $("folding").checked ? foldsOf(text).filter((fold) => !opened.has(fold[0])) : [];
    const top = rows[Math.min(rows.length - 1, Math.floor(firstRow()))];
    foldBegins = folds.map((fold) => fold[0]);
    rows = layOut(text, columns, folds);
    rowHeight = LINE + LEVEL_LINE * levelRows() + GAP;
    $("space").style.height = space() + "px";
    scrollToRow(placeOf(rows, top)); // what was at the top stays there
    drawn.forEach((element) => element.remove());
    drawn.clear();
    picture = null;
    draw();
  }

  function draw() {
    waiting = false;
    const first = firstRow(), from = Math.max(0, Math.floor(first) - SPARE);
    const to = Math.min(rows.length, Math.ceil(first + view.clientHeight / rowHeight) + SPARE);
    drawn.forEach((element, row) => {
      if (row < from || row >= to) element.remove(), drawn.delete(row);
    });
    const origin = view.scrollTop - first * rowHeight;
    for (let row = from; row < to; row++) {
      let element = drawn.get(row);
      if (!element) drawn.set(row, (element = lines.appendChild(rowOf(row))));
      element.style.top = origin + row * rowHeight + "px";
    }
    mark();
    drawStrip();
  }

  function rowOf(row) {
    const begin = rows[row], end = row + 1 < rows.length ? rows[row + 1] : text.n;
    const line = placeOf(text.lines, begin), element = make("div", "row");
    if (!row || line !== placeOf(text.lines, rows[row - 1]))
      element.append(make("span", "number", line + text.firstLine));
    const below = Array.from({ length: levelRows() }, () => "");
    let column = 0, next = placeOf(foldBegins, begin);
    if (next < folds.length && foldBegins[next] < begin) next++;
    for (let i = begin; i < end;) {
      if (next < folds.length && folds[next][0] === i) {
        const fold = folds[next++], button = make("button", "fold", foldLabel(fold));
        button.type = "button", button.tabIndex = -1, button.fold = fold;
        element.append(button);
        const width = foldLabel(fold).length + 2;
        for (let k = 0; k < below.length; k++) below[k] += " ".repeat(width);
        column += width;
        i = fold[1];
        continue;
      }
      const cells = cellsOf(text, i, column), flags = text.flags[i], reach = flags >> 5;
      const glyph = text.data[text.starts[i]] === 9 ? " ".repeat(cells) : glyphOf(text, i);
      const named = (flags >> 3 & 3) === 3 && glyph.trim() ? " named" : "";
      const span = make("span", `c b${binOf(valueOf(text, i), text.edges)}${named}${cells === 2 && !named ? " wide" : ""}`, glyph);
      span.at = i;
      element.append(span);
      for (let k = 0; k < below.length; k++) below[k] += reach > k ? glyph : " ".repeat(cells);
      column += cells;
      i++;
    }
    for (const each of below) element.append(make("div", "", each.trimEnd()));
    return element;
  }

  /* The cursor, and what is told of it. */
  function mark() {
    lines.querySelectorAll(".at").forEach((element) => element.classList.remove("at"));
    const element = drawn.get(placeOf(rows, cursor));
    if (!element) return;
    for (const span of element.children) if (span.at === cursor) span.classList.add("at");
  }

  function tell(i) {
    if (i === shown) return;
    shown = i;
    panel.replaceChildren(...describe(text, facts, i).map(([label, value]) => {
      const pair = make("span", "", label + " ");
      pair.append(make("b", "", value));
      return pair;
    }));
    const found = guessesOf(text, i).map((guess) => {
      const item = make("li", guess.came ? "came" : "");
      item.append(make("b", "", guess.name), ` ${chance(guess.bits)} `, make("span", "", sourceOf(guess.level)));
      return item;
    });
    if (!found.length && facts.guesses) found.push(make("span", "", `Guesses are told from ${facts.rankFrom} bits on.`));
    guesses.replaceChildren(...found);
  }

  /* For a screen reader. */
  function say(i) {
    const parts = describe(text, facts, i).slice(0, 4).map((pair) => pair.join(" "));
    const found = guessesOf(text, i).map((guess) => `${guess.name} ${chance(guess.bits)}`);
    $("told").textContent = [...parts, ...(found.length ? ["guesses: " + found.join(", ")] : [])].join(", ");
  }

  function moveTo(i) {
    cursor = Math.max(0, Math.min(text.n - 1, i));
    const fold = folds.find(([begin, end]) => begin <= cursor && cursor < end);
    if (fold) opened.add(fold[0]), lay();
    const row = placeOf(rows, cursor), first = firstRow(), fits = Math.floor(view.clientHeight / rowHeight) || 1;
    if (row < first || row + 1 > first + fits) scrollToRow(row - fits / 2);
    draw();
    tell(cursor);
    say(cursor);
  }

  function scrollToRow(row) {
    view.scrollTop = Math.max(0, (row * rowHeight) / scale());
  }

  /* Left or right past a fold, up or down by rows. */
  function step(by) {
    const i = cursor + by, fold = folds.find(([begin, end]) => begin <= i && i < end);
    moveTo(fold ? (by > 0 ? fold[1] : fold[0] - 1) : i);
  }

  function stepRows(by) {
    const row = placeOf(rows, cursor), column = cursor - rows[row];
    const to = Math.max(0, Math.min(rows.length - 1, row + by));
    const end = to + 1 < rows.length ? rows[to + 1] : text.n;
    const i = Math.min(rows[to] + column, end - 1);
    const fold = folds.find(([begin, stop]) => begin <= i && i < stop);
    moveTo(fold ? (fold[0] > rows[to] ? fold[0] - 1 : fold[1]) : i);
  }

  function jump(way) {
    const found = surpriseFrom(text, cursor + way, way, Number($("least").value) || 0);
    if (found < 0) $("told").textContent = "there is no other";
    else moveTo(found);
  }

  /* Enter: the fold that is nearest behind the cursor on its row. */
  function openFold() {
    const row = placeOf(rows, cursor), end = row + 1 < rows.length ? rows[row + 1] : text.n;
    const fold = folds.find(([begin]) => begin >= rows[row] && begin < end && begin >= cursor);
    if (fold) opened.add(fold[0]), lay(), moveTo(fold[0]);
  }

  function stripPicture() {
    const canvas = make("canvas"), height = (canvas.height = Math.max(1, strip.clientHeight)), width = (canvas.width = 36);
    const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const colours = Array.from({ length: text.edges.length + 1 }, (_, k) => style.getPropertyValue("--b" + k));
    const bars = Math.min(height, rows.length), means = [], dearest = [];
    for (let bar = 0; bar < bars; bar++) {
      const begin = rows[Math.floor((bar * rows.length) / bars)], after = Math.floor(((bar + 1) * rows.length) / bars);
      const end = after < rows.length ? rows[after] : text.n;
      let sum = 0, top = begin;
      for (let i = begin; i < end; i++) {
        const value = Math.abs(valueOf(text, i));
        sum += value;
        if (value > Math.abs(valueOf(text, top))) top = i;
      }
      means.push(sum / (end - begin)), dearest.push(binOf(valueOf(text, top), text.edges));
    }
    const most = means.reduce((a, b) => Math.max(a, b), 1e-9);
    means.forEach((mean, bar) => {
      context.fillStyle = colours[dearest[bar]];
      const y = Math.floor((bar * height) / bars);
      context.fillRect(0, y, Math.ceil((width * mean) / most), Math.max(1, Math.ceil(height / bars)));
    });
    return canvas;
  }

  function drawStrip() {
    const context = strip.getContext("2d");
    if (!context) return;
    picture = picture || stripPicture();
    strip.width = picture.width, strip.height = picture.height;
    context.drawImage(picture, 0, 0);
    const top = (firstRow() / rows.length) * strip.height;
    const height = Math.max(3, ((view.clientHeight / rowHeight) / rows.length) * strip.height);
    context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--mark");
    context.lineWidth = 2;
    context.strokeRect(1, top + 1, strip.width - 2, Math.min(height, strip.height - top) - 2);
  }

  function pointAt(event) {
    const box = strip.getBoundingClientRect();
    const row = ((event.clientY - box.top) / box.height) * rows.length;
    scrollToRow(row - view.clientHeight / rowHeight / 2);
  }

  view.addEventListener("scroll", () => {
    if (!waiting) waiting = true, requestAnimationFrame(draw);
  });
  view.addEventListener("pointerover", (event) => event.target.at !== undefined && tell(event.target.at));
  view.addEventListener("click", (event) => {
    const { at, fold } = event.target;
    if (fold) opened.add(fold[0]), lay(), moveTo(fold[0]);
    else if (at !== undefined) moveTo(at);
    view.focus();
  });
  strip.addEventListener("pointerdown", (event) => strip.setPointerCapture(event.pointerId) ?? pointAt(event));
  strip.addEventListener("pointermove", (event) => event.buttons && pointAt(event));
  const keys = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), ArrowUp: () => stepRows(-1), ArrowDown: () => stepRows(1),
    PageUp: () => stepRows(-Math.max(1, Math.floor(view.clientHeight / rowHeight) - 1)),
    PageDown: () => stepRows(Math.max(1, Math.floor(view.clientHeight / rowHeight) - 1)),
    Home: () => moveTo(text.lines[placeOf(text.lines, cursor)]),
    End: () => moveTo((text.lines[placeOf(text.lines, cursor) + 1] ?? text.n) - 1),
    n: () => jump(1), p: () => jump(-1), Enter: openFold,
  };
  view.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  });
  $("next").addEventListener("click", () => jump(1));
  $("previous").addEventListener("click", () => jump(-1));
  $("folding").addEventListener("change", () => (opened.clear(), lay()));
  $("rows").addEventListener("change", lay);
  $("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = new TextEncoder().encode(event.target.elements[0].value);
    const found = findFrom(text, wanted, cursor);
    if (found < 0) $("told").textContent = "not found";
    else moveTo(found);
  });
  new ResizeObserver(lay).observe(view);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => ((picture = null), drawStrip()));
  if (facts.compared) $("of").textContent = `bits that ${facts.models[1]} needs more than ${facts.models[0]}`;
  if (!facts.reach) $("rows").parentElement.hidden = true;
  if (text.n < FOLDS_FROM) $("folding").parentElement.hidden = true;
  lay();
  tell(0);
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
}

if (typeof document !== "undefined") {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  inflate(document.getElementById("data").textContent)
    .then((bytes) => start(unpack(bytes, facts), facts))
    .catch((error) => (document.getElementById("panel").textContent = `The text cannot be shown: ${error.message}`));
}
