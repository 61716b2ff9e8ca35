// SPDX-License-Identifier: Apache-2.0
// How far the server is with reading the prompt.

import { duration, number } from "./format.js";

export class Progress {
  #box; #bar; #text;

  constructor(box) {
    this.#box = box;
    this.#bar = box.querySelector("progress");
    this.#text = box.querySelector("p");
  }

  start(words) {
    this.#set(0, words);
  }

  /** `processed` includes what was `cache`d, but only the rest took any of the time. */
  show({ total, processed, cache = 0, time_ms: milliseconds }) {
    const done = Math.min(total, Math.max(processed, cache));
    const speed = milliseconds > 0 ? (done - cache) / (milliseconds / 1000) : 0;
    const parts = [`Reading: ${number(done)} of ${number(total)} tokens`];
    if (speed > 0) parts.push(`${number(speed)} tokens/s`);
    if (speed > 0 && done < total) parts.push(`${duration((total - done) / speed)} left`);
    this.#bar.max = Math.max(total, 1);
    this.#set(done, parts.join(", "));
  }

  #set(value, words) {
    this.#bar.value = value;
    this.#text.textContent = words;
    this.#box.hidden = false;
  }

  hide() {
    this.#box.hidden = true;
  }
}
