# SPDX-License-Identifier: Apache-2.0
"""SIGTERM: streams end with a reason, and the process ends with status 0 within 5 s."""

import json
import threading

import httpx

from harness import (SLACK, FACT_QUESTION, Server, book_text, check, get_json, note, options, run_checks,
                     wait_until)

args = options(
    __doc__, ("--binary", dict(required=True)), ("--model-file", dict(required=True)),
    ("--book", dict(required=True)), ("--tokens", dict(type=int, default=60_000)))
SECONDS = 5 * SLACK


class Stream:
    """A stream that a thread reads to its end."""

    def __init__(self, url, body):
        self.lines, self.error = [], None
        self.thread = threading.Thread(target=self.read, args=(url, body), daemon=True)
        self.thread.start()

    def read(self, url, body):
        try:
            with httpx.stream("POST", url, json=body, timeout=None) as reply:
                for line in reply.iter_lines():
                    self.lines.append(line)
        except httpx.HTTPError as error:
            self.error = error

    def reason(self):
        """Why the stream ended, by its own words."""
        self.thread.join(SECONDS)
        assert not self.thread.is_alive(), "the stream did not end"
        assert self.error is None, f"the connection broke: {self.error!r}"
        for line in reversed(self.lines):
            data = line.removeprefix("data:").strip()
            if not data.startswith("{"):
                continue
            event = json.loads(data)
            if error := event.get("error"):
                text = error if isinstance(error, str) else error["message"]
                assert "shut" in text.lower(), text
                return text
            choices = event.get("choices") or [{}]
            ended = event.get("done_reason") or choices[0].get("finish_reason")
            assert ended, f"ended without a reason: {line[:200]}"
            return ended
        raise AssertionError(f"no event: {self.lines[-3:]}")


def ends(server):
    status, seconds = server.terminate(SECONDS)
    note(f"status {status} after {seconds:.2f} s")
    assert status == 0, status


@check("SIGTERM when idle")
def _():
    with Server(args.binary, args.model_file) as server:
        ends(server)


@check("SIGTERM during a prefill and a long answer")
def _():
    with Server(args.binary, args.model_file) as server:
        model = get_json(server.url + "/api/tags")["models"][0]["name"]
        text = book_text(server.url, args.book, args.tokens)
        messages = [{"role": "user", "content": f"{text}\n\n{FACT_QUESTION}"}]
        answer = Stream(server.url + "/api/generate", {
            "model": model, "prompt": "Hello", "options": {"temperature": 0, "num_predict": 50_000}})
        wait_until(lambda: len(answer.lines) > 3, 30, "the answer began")
        prefill = Stream(server.url + "/v1/chat/completions", {
            "model": model, "messages": messages, "stream": True, "return_progress": True})
        wait_until(lambda: any("prompt_progress" in line for line in prefill.lines), 30,
                   "the prefill began")
        ends(server)
        note(f"the prefill: {prefill.reason()!r}")
        note(f"the answer: {answer.reason()!r}")


@check("SIGTERM with an idle connection kept alive")
def _():
    with Server(args.binary, args.model_file) as server, httpx.Client() as client:
        client.get(server.url + "/health")
        ends(server)


run_checks(args.only)
