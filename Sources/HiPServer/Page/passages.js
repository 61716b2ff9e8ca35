// SPDX-License-Identifier: Apache-2.0
// What the attention read most closely for one answer: a list, and marks in the document.

import { element, percent } from "./format.js";

const shownAtMost = 8;

function excerpt(text, length = 110) {
  const line = text.replace(/\s+/g, " ").trim();
  if (line.length <= length) return line;
  const cut = line.lastIndexOf(" ", length);
  return `${line.slice(0, cut > length / 2 ? cut : length)} …`;
}

/** In the document: the document is the beginning of the first message. */
function isInDocument({ message, start, end }, pane) {
  return message === 0 && start !== null && end !== null && start < end && start < pane.text.length;
}

function place(passage, pane) {
  if (isInDocument(passage, pane)) return `at ${percent(passage.start / pane.text.length)}`;
  if (typeof passage.message !== "number") return "place unknown";
  return passage.message % 2 ? "in an answer" : "in a question"; // They alternate, and nothing comes before them.
}

/** The list for an answer, its passages marked in the document. */
export function passageList(passages, attention, pane) {
  const box = element("div", { className: "passages" });
  if (passages.length === 0) {
    box.append(element("p", { className: "quiet" }, `The whole text was read (attention: ${attention ?? "unknown"}).`));
    pane.mark(box, []);
    return box;
  }
  const places = [];
  const list = element("ol");
  passages.slice(0, shownAtMost).forEach((passage, index) => {
    const number = index + 1;
    const where = element("span", { className: "place" }, place(passage, pane));
    if (typeof passage.share === "number") where.title = `Share ${percent(passage.share)}`;
    if (!isInDocument(passage, pane)) {
      list.append(element("li", {}, where, " ", element("mark", {}, excerpt(passage.text ?? "", 400))));
      return;
    }
    const end = Math.min(passage.end, pane.text.length);
    places.push({ number, start: passage.start, end, title: `Passage ${number}, ${where.textContent} of the text` });
    const button = element("button", { type: "button" }, where, " ",
      excerpt(passage.text || pane.text.slice(passage.start, end)));
    button.addEventListener("click", () => {
      pane.mark(box, places); // A later answer may have put its own marks in the place of these.
      pane.show(number, button);
    });
    list.append(element("li", {}, button));
  });
  box.append(element("h4", {}, "Read most closely:"), list);
  pane.mark(box, places);
  if (places.length) pane.reveal(places[0].number);
  return box;
}
