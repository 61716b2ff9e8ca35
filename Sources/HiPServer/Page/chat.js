// SPDX-License-Identifier: Apache-2.0
// The conversation: what is sent, and how an answer comes to be shown.

import { call } from "./api.js";
import { element, number } from "./format.js";
import { passageList } from "./passages.js";
import { chunks } from "./stream.js";

/** One answer in the log, while it comes and after. */
class Answer {
  content = "";
  finish = null;
  #usage; #passages; #attention;
  #started; #ended;
  #box; #text; #reasoning;
  #waiting = []; #timer; #follow;

  constructor(log, follow) {
    this.#follow = follow;
    this.#text = element("div", { className: "text" });
    this.#box = element("article", { className: "answer" }, element("h3", {}, "Answer"), this.#text);
    log.append(this.#box);
    follow(this.#box, true);
  }

  /** Takes in a chunk; says whether it brought text. */
  take(chunk) {
    const choice = chunk.choices?.[0];
    const { content, reasoning_content: reasoning } = choice?.delta ?? {};
    if (reasoning) this.#add(this.#reasoningText(), reasoning);
    if (content) this.#add(this.#text, content);
    this.content += content ?? "";
    if (choice?.finish_reason) {
      this.finish = choice.finish_reason;
      this.#passages = chunk.passages;
      this.#attention = chunk.attention;
    }
    if (chunk.usage) this.#usage = chunk.usage;
    return Boolean(content || reasoning);
  }

  /** Text is added in batches and as new nodes: a screen reader then reads each piece once. */
  #add(target, text) {
    this.#started ??= performance.now();
    this.#ended = performance.now();
    const last = this.#waiting.at(-1);
    if (last?.target === target) last.text += text;
    else this.#waiting.push({ target, text });
    this.#timer ??= setTimeout(() => this.#flush(), 80);
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#follow(this.#box, false, () => {
      for (const { target, text } of this.#waiting) target.append(text);
      this.#waiting = [];
    });
  }

  #reasoningText() {
    if (this.#reasoning) return this.#reasoning;
    this.#reasoning = element("div", { className: "text" });
    this.#text.before(element("details", {}, element("summary", {}, "Reasoning"), this.#reasoning));
    return this.#reasoning;
  }

  end(pane, note, failed) {
    this.#flush();
    this.#follow(this.#box, false, () => {
      if (note) this.#box.append(element("p", { className: failed ? "failure" : "quiet" }, note));
      if (this.#passages) this.#box.append(passageList(this.#passages, this.#attention, pane));
      const facts = this.#facts();
      if (facts) this.#box.append(element("p", { className: "facts" }, facts));
    });
  }

  #facts() {
    const parts = [];
    if (this.#usage) {
      const cached = this.#usage.prompt_tokens_details?.cached_tokens;
      const seconds = ((this.#ended ?? 0) - (this.#started ?? 0)) / 1000;
      parts.push(`${number(this.#usage.prompt_tokens)} tokens read${cached ? ` (${number(cached)} cached)` : ""}`);
      parts.push(`${number(this.#usage.completion_tokens)} tokens in ${seconds.toFixed(1)} s`);
    }
    if (this.#attention) parts.push(`attention: ${this.#attention}`);
    if (this.finish) parts.push(`stopped: ${this.finish}`);
    return parts.join(" · ");
  }
}

export class Chat {
  #messages = [];
  #running = null;

  /** `settings()` gives {model, attention, budget}, or null where they cannot be sent as they are. */
  constructor({ log, question, send, stop, anew, progress, pane, settings }) {
    Object.assign(this, { log, question, send, stop, anew, progress, pane, settings });
    stop.addEventListener("click", () => this.#running?.abort());
    this.reset();
  }

  /** Begins anew; says why where there was a conversation. */
  reset(note) {
    this.#running?.abort();
    this.#messages = [];
    this.#setRunning(null);
    this.pane.mark(null, []);
    const had = this.log.querySelector("article");
    this.log.replaceChildren(element("p", { className: "hint" },
      had && note ? note : "Ask about the document, or about anything else."));
    this.anew.hidden = true;
  }

  /** Something that is not part of the conversation, told where it will be read. */
  tell(words) {
    const note = element("p", { className: "failure" }, words);
    this.log.append(note);
    this.#follow(note, true);
  }

  async ask() {
    const text = this.question.value.trim();
    const settings = text && !this.#running && this.settings();
    if (!settings) return;
    this.question.value = "";
    this.question.focus();

    const messages = this.#messages;
    const reading = messages.length === 0 ? this.pane.text : "";
    messages.push({ role: "user", content: reading ? `${reading}\n\n${text}` : text });
    if (messages.length === 1) this.log.replaceChildren();
    this.log.append(element("article", { className: "question" },
      element("h3", {}, "You"), element("div", { className: "text" }, text)));
    const answer = new Answer(this.log, this.#follow);
    const controller = new AbortController();
    this.#setRunning(controller);
    this.anew.hidden = false;
    this.progress.start(reading ? `Sending ${number(reading.length)} characters …` : "Sending …");

    let note = null, failed = false;
    try {
      const response = await call("v1/chat/completions", {
        signal: controller.signal,
        body: {
          ...settings, messages, stream: true, stream_options: { include_usage: true },
          return_progress: true, return_passages: true, temperature: 0, max_tokens: 1024,
        },
      });
      for await (const chunk of chunks(response.body)) {
        if (controller !== this.#running) return;
        if (chunk.prompt_progress) this.progress.show(chunk.prompt_progress);
        if (answer.take(chunk)) this.progress.hide();
      }
      if (!answer.finish) throw new Error("The connection ended before the answer did.");
    } catch (error) {
      failed = !controller.signal.aborted;
      note = failed ? error.message : "Stopped.";
    }
    if (controller !== this.#running) return; // The conversation was begun anew meanwhile.

    answer.end(this.pane, note, failed);
    if (answer.content) {
      messages.push({ role: "assistant", content: answer.content });
    } else if (note) {
      // Nothing was answered: the question goes back to where it can be changed and sent again.
      messages.pop();
      this.question.value ||= text;
    }
    this.#setRunning(null);
  }

  #setRunning(controller) {
    const hadFocus = document.activeElement === this.stop;
    this.#running = controller;
    this.stop.hidden = !controller;
    this.send.hidden = Boolean(controller);
    if (!controller) this.progress.hide();
    if (!controller && hadFocus) this.question.focus();
  }

  /** Makes a change and keeps the end of the log in sight, unless the reader has scrolled away from it. */
  #follow = (box, always, change = () => {}) => {
    // Wide, the log scrolls; narrow, the page does, with the form over its end.
    const narrow = getComputedStyle(this.log).overflowY === "visible";
    const scroller = narrow ? document.scrollingElement : this.log;
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    change();
    if (!always && !atEnd) return;
    // An answer longer than the window is followed to its beginning at most, so that it can be read from there.
    const room = scroller.clientHeight - (narrow ? this.question.closest(".ask").offsetHeight : 0);
    box.scrollIntoView({ block: box.offsetHeight > room - 20 ? "start" : "end" });
  };
}
