// SPDX-License-Identifier: Apache-2.0
// The document: reading it from a file, showing it, and marking places in it.

import { bytes, element, number } from "./format.js";

const largestFile = 256e6, chunkLength = 3000;

/** The text of a file; throws in words where it is none. Line ends become LF, in what is sent as in what is shown. */
export async function readText(file) {
  if (file.size > largestFile) throw new Error(`“${file.name}” is larger than ${bytes(largestFile)}.`);
  const text = decode(new Uint8Array(await file.arrayBuffer()));
  // A NUL is in hardly any text, and in almost every file that is something else.
  if (text.includes("\0")) throw new Error(`“${file.name}” is not a text file: it has NUL bytes in it.`);
  if (!text.trim()) throw new Error(`“${file.name}” has no text in it.`);
  return text.replace(/\r\n?/g, "\n");
}

function decode(data) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    // The byte order marks of UTF-16 are never valid UTF-8, so these files always come here.
    const mark = data[0] << 8 | data[1];
    const encoding = { 0xfffe: "utf-16le", 0xfeff: "utf-16be" }[mark] ?? "windows-1252";
    return new TextDecoder(encoding).decode(data);
  }
}

/** Where the chunk that begins at `start` ends: after an empty line, else a line, else a word. */
function chunkEnd(text, start) {
  const limit = start + chunkLength;
  if (limit >= text.length) return text.length;
  for (const separator of ["\n\n", "\n", " "]) {
    const at = text.lastIndexOf(separator, limit - separator.length);
    if (at > start + chunkLength / 3) return at + separator.length;
  }
  // No place to break: only keep from cutting a surrogate pair in two.
  return /[\ud800-\udbff]/.test(text[limit - 1]) ? limit - 1 : limit;
}

export class DocumentPane {
  text = "";
  #pane; #name; #length; #remove;
  #chunks = []; #marked = [];
  #markedFor = null; #cameFrom = null;
  #targets = new Map();

  constructor({ pane, name, length, remove }) {
    this.#pane = pane; this.#name = name; this.#length = length; this.#remove = remove;
    pane.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#cameFrom?.focus();
    });
    this.clear();
  }

  clear() {
    this.#set("", "Document", "");
    this.#pane.append(element("p", { className: "hint" },
      "Open a text file, or drop one anywhere on this page. It goes to the model with your first question."));
  }

  open(name, text) {
    this.#set(text, name, `${number(text.length)} characters`);
    const blocks = document.createDocumentFragment();
    for (let start = 0; start < text.length;) {
      const end = chunkEnd(text, start);
      const block = element("div", { className: "chunk" }, text.slice(start, end));
      this.#chunks.push({ start, end, block });
      blocks.append(block);
      start = end;
    }
    this.#pane.append(blocks);
  }

  #set(text, name, length) {
    this.text = text;
    this.#chunks = [];
    this.#marked = [];
    this.#targets.clear();
    this.#markedFor = this.#cameFrom = null;
    this.#pane.replaceChildren();
    this.#pane.scrollTop = 0;
    this.#name.textContent = this.#name.title = name;
    this.#length.textContent = length;
    this.#remove.hidden = !text;
  }

  /** Marks the places [{number, start, end, title}] of `owner`, best first, and no others. */
  mark(owner, places) {
    if (this.#markedFor === owner) return;
    this.#markedFor = owner;
    for (const { start, end, block } of this.#marked) block.textContent = this.text.slice(start, end);
    this.#targets.clear();

    // Marks do not nest: where places overlap the better, earlier one keeps all of it and the other what is left.
    const spans = [];
    for (const place of places) {
      const span = { ...place, covers: [place.number] };
      for (const better of spans) {
        if (span.start >= better.end || span.end <= better.start) continue;
        if (span.start < better.start) span.end = better.start;
        else span.start = Math.min(better.end, span.end);
        if (span.start === span.end) better.covers.push(place.number);
      }
      if (span.start < span.end) spans.push(span);
    }
    spans.sort((a, b) => a.start - b.start);
    this.#marked = this.#chunks.filter(({ start, end }) => spans.some((span) => span.start < end && span.end > start));
    for (const chunk of this.#marked) this.#markChunk(chunk, spans);
  }

  #markChunk({ start, end, block }, spans) {
    const nodes = [];
    let at = start;
    for (const span of spans) {
      const from = Math.max(span.start, start), to = Math.min(span.end, end);
      if (from >= to) continue;
      const mark = element("mark", { title: span.title }, this.text.slice(from, to));
      if (span.start >= start) { // A passage over several chunks is several marks; the first is the one to go to.
        Object.assign(mark, { id: `passage-${span.number}`, tabIndex: -1 });
        for (const covered of span.covers) this.#targets.set(covered, mark);
      }
      nodes.push(this.text.slice(at, from), mark);
      at = to;
    }
    block.replaceChildren(...nodes, this.text.slice(at, end));
  }

  /** Goes to a mark; Escape then goes back to `origin`. */
  show(number, origin) {
    const mark = this.#targets.get(number);
    if (!mark) return;
    this.#cameFrom = origin;
    mark.focus({ preventScroll: true });
    this.#center(mark);
    mark.classList.remove("flash");
    void mark.offsetWidth; // Without a layout in between the animation would not start again.
    mark.classList.add("flash");
  }

  /** Brings a mark into sight where the document stands beside the conversation; the focus stays where it is. */
  reveal(number) {
    const mark = this.#targets.get(number);
    if (mark && matchMedia("(min-width: 52rem)").matches) this.#center(mark);
  }

  #center(mark) {
    mark.scrollIntoView({ block: "center" });
    // The chunks around it are laid out only now that they are in sight, which may move it.
    requestAnimationFrame(() => requestAnimationFrame(() => mark.scrollIntoView({ block: "center" })));
  }
}
