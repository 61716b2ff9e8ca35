// SPDX-License-Identifier: Apache-2.0
// Ties the page together: settings, the state of the server, files, and the conversation.

import { call, useKey, whenKeyIsNeeded } from "./api.js";
import { Chat } from "./chat.js";
import { DocumentPane, readText } from "./document.js";
import { bytes, element, number } from "./format.js";
import { Progress } from "./progress.js";

const at = (id) => document.getElementById(id);
const model = at("model"), attention = at("attention"), budget = at("budget");

const pane = new DocumentPane({
  pane: at("document"), name: at("document-name"), length: at("document-length"), remove: at("remove"),
});
const chat = new Chat({
  log: at("log"), question: at("question"), send: at("send"), stop: at("stop"), anew: at("anew"),
  progress: new Progress(at("progress")), pane, settings,
});

function settings() {
  if (!budget.reportValidity()) return null; // The browser says at the field what is wrong.
  if (!model.value) return chat.tell("The server has no model to ask.");
  return { model: model.value, attention: attention.value || "auto", budget: Number(budget.value) || null };
}

/** Fills a select only when its options change: one that is open or chosen in must not be disturbed. */
function fill(select, options) {
  const chosen = select.value;
  if ([...select].map(({ value }) => value).join("\n") === options.map(({ value }) => value).join("\n")) return;
  select.replaceChildren(...options.map(({ value, label }) => element("option", { value }, label ?? value)));
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
}

async function loadModels() {
  const { models } = await (await call("api/tags")).json();
  fill(model, models.map(({ name, details }) => {
    const about = [details?.parameter_size, details?.quantization_level].filter(Boolean).join(", ");
    return { value: name, label: about ? `${name} (${about})` : name };
  }));
}

function describe({ models, memory, speed, requests }) {
  const parts = [];
  const add = (value, words) => typeof value === "number" && parts.push(words(value));
  add(memory?.resident_bytes, (value) => `${bytes(value)} in memory`);
  add(memory?.kv_bytes, (value) => `${bytes(value)} of keys and values`);
  add(speed?.prefill_tokens_per_second, (value) => `prefill ${number(value)} tokens/s`);
  add(speed?.decode_tokens_per_second, (value) => `decode ${number(value)} tokens/s`);
  add(requests?.running, (value) => `${number(value)} running, ${number(requests.waiting ?? 0)} waiting`);
  const chosen = models?.find(({ name }) => name === model.value);
  add(chosen?.trained_length, (value) => `trained on ${number(value)} tokens`);
  add(chosen?.context_limit, (value) => `reads up to ${number(value)} tokens`);
  return parts.join(" · ");
}

let timer, polling = false;

async function poll() {
  clearTimeout(timer);
  // Nobody sees a hidden tab, and while a key is asked for every answer would be the same.
  if (polling || document.hidden || !at("key-form").hidden) return;
  polling = true;
  let line;
  try {
    if (model.length === 0) await loadModels();
    const state = await (await call("ui/state")).json();
    if (state.attention?.length) fill(attention, state.attention.map((value) => ({ value })));
    line = describe(state);
  } catch (error) {
    line = error.message;
  }
  polling = false;
  // Setting the same text again would still drop a selection in it.
  if (at("state").textContent !== line) at("state").textContent = line;
  timer = setTimeout(poll, 2000);
}

document.addEventListener("visibilitychange", poll);

whenKeyIsNeeded((refused) => {
  if (refused) at("key-help").textContent = "The server did not accept this key.";
  if (!at("key-form").hidden) return;
  at("key-form").hidden = false;
  at("key").focus();
});

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value);
  at("key").value = "";
  at("key-form").hidden = true;
  at("question").focus();
  poll();
});

async function open(file) {
  try {
    const text = await readText(file);
    chat.reset("The document is another one: the conversation begins anew.");
    pane.open(file.name, text);
  } catch (error) {
    chat.tell(error.message);
  }
}

at("file").addEventListener("change", ({ target }) => {
  if (target.files.length) open(target.files[0]);
  target.value = ""; // So that the same file can be opened again, changed.
});

at("remove").addEventListener("click", () => {
  pane.clear();
  chat.reset("The document is gone: the conversation begins anew.");
  at("file").focus();
});

for (const type of ["dragover", "dragleave", "drop"]) {
  addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    // Leaving one element for another is not leaving the page.
    document.body.classList.toggle("dropping", type === "dragover" || Boolean(type !== "drop" && event.relatedTarget));
    if (type === "drop" && event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  });
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  chat.ask();
});

at("question").addEventListener("keydown", (event) => {
  // An Enter that ends the composition of a character is not meant for the form.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  chat.ask();
});

at("anew").addEventListener("click", () => {
  chat.reset();
  at("question").focus();
});

poll();
