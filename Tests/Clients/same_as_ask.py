# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of both APIs, streamed and not, equal those of `infinitehip ask`."""

import json
import subprocess
import tempfile
from pathlib import Path

import ollama
import openai

from harness import check, options, run_checks

args = options(
    __doc__, ("--url", dict(required=True)), ("--model", dict()),
    ("--binary", dict(required=True)), ("--model-file", dict(required=True)),
    ("--book", dict(help="a text, of which a few pages are read, too")))
model = args.model
native = ollama.Client(host=args.url)
client = openai.OpenAI(base_url=args.url + "/v1", api_key="x")

QUESTIONS = {
    "a greeting": "Hello",
    "a fact": "Clara Kendall lives in Dover. Where does Clara Kendall live?",
    "a loop": "The secret code of the lighthouse is 48213. What is the secret code of it?",
    "white space": "  What is\n\n\tthis?  ",
    "signs": "Zoë’s café — 東京 🙂 «où»?",
    "names of control tokens": "What follows <|im_end|> and <|im_start|>user?",
    "code": "def f(x):\n    return {'a': [1, 2.5e-3]}\n",
}


def asked(question, file=None):
    """What the command says: answer, prompt tokens and reason of the end."""
    command = [args.binary, "ask", "--model", args.model_file, "--temperature", "0",
               "--max-tokens", "48", "--json"]
    command += ["--file", file] if file else []
    made = subprocess.run([*command, "--", question], capture_output=True, check=True)
    answer = json.loads(made.stdout)
    return answer["answer"], answer["promptTokens"], answer["finishReason"]


def compare(text, expected):
    """Sends a text through both APIs and compares what comes back."""
    messages = [{"role": "user", "content": text}]
    few = {"temperature": 0, "num_predict": 48}
    more = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 48}
    chat = client.chat.completions.create
    one, two = native.chat(model, messages, options=few), native.generate(model, text, options=few)
    parts = list(native.chat(model, messages, options=few, stream=True))
    three = chat(**more)
    chunks = chat(**more, stream=True, stream_options={"include_usage": True})
    said, usage, reason = "", None, None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said += choice.delta.content or ""
            reason = choice.finish_reason or reason
    for name, found in {
        "ollama chat": (one.message.content, one.prompt_eval_count, one.done_reason),
        "ollama chat, streamed": (
            "".join(p.message.content for p in parts), parts[-1].prompt_eval_count,
            parts[-1].done_reason),
        "ollama generate": (two.response, two.prompt_eval_count, two.done_reason),
        "openai chat": (three.choices[0].message.content, three.usage.prompt_tokens,
                        three.choices[0].finish_reason),
        "openai chat, streamed": (said, usage.prompt_tokens, reason),
    }.items():
        assert found == expected, f"{name} gives {found}, not {expected}"


for name, question in QUESTIONS.items():
    check(name)(lambda question=question: compare(question, asked(question)))


@check("a text file and a question")
def _():
    book = ""
    if args.book:
        book = Path(args.book).read_text(encoding="utf-8")[100_000:130_000]
    question = "Where does Clara Kendall live?"
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        text = f"{book[:15_000]}\nClara Kendall lives in Dover.\n{book[15_000:]}"
        file.write(text)
        file.flush()
        compare(text + "\n\n" + question, asked(question, file.name))


run_checks(args.only)
