// SPDX-License-Identifier: Apache-2.0
// Server-sent events read from a fetch: EventSource can neither POST nor send a key.

import { errorText } from "./api.js";

/** The data of each event. As the standard has it, an event that its blank line never ends is dropped. */
export async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      // A CR at the very end waits: it may be the first half of a CR LF.
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        } // Comments (":") and other fields say nothing that is used here.
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The chunks of a streamed completion; one that holds an error is thrown. */
export async function* chunks(body) {
  for await (const data of events(body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(errorText(chunk) ?? "The server reports an error without words.");
    yield chunk;
  }
}
