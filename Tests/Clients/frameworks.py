# SPDX-License-Identifier: Apache-2.0
"""Drives a server through LangChain and LlamaIndex."""

import asyncio
from typing import Literal

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field

from harness import check, options, run_checks

args = options(__doc__)
url, model = args.url, args.model

TEXT = "Clara Kendall lives in Dover. Where does Clara Kendall live?"


class Visit(BaseModel):
    """A visit to a town."""

    town: Literal["Dover", "Calais", "Deal"]
    alone: bool
    years: int = Field(ge=0, le=99)


def chat_ollama(**more):
    return ChatOllama(base_url=url, model=model, temperature=0, **{"num_predict": 16, **more})


def chat_openai(**more):
    return ChatOpenAI(base_url=url + "/v1", api_key="x", model=model, temperature=0,
                      **{"max_tokens": 16, **more})


def llama_ollama(**more):
    return Ollama(base_url=url, model=model, temperature=0, context_window=4096,
                  additional_kwargs={"num_predict": more.get("tokens", 16)})


def llama_openai(**more):
    return OpenAILike(
        api_base=url + "/v1", api_key="x", model=model, temperature=0, context_window=4096,
        max_tokens=more.get("tokens", 16), is_chat_model=more.get("chat", True),
        should_use_structured_outputs=True)


def check_chat(chat):
    """Invokes, streams, batches and awaits a LangChain model; all must say the same."""
    answer = chat.invoke(TEXT)
    assert "Dover" in answer.content, answer
    assert answer.usage_metadata["input_tokens"] > 10, answer.usage_metadata
    assert "".join(part.content for part in chat.stream(TEXT)) == answer.content
    assert [a.content for a in chat.batch([TEXT] * 3)] == [answer.content] * 3
    assert asyncio.run(chat.ainvoke(TEXT)).content == answer.content
    history = [SystemMessage("Answer."), HumanMessage(TEXT)]
    assert "Dover" in chat.invoke(history).content


def check_embeddings(embeddings):
    """One vector for a query, several for documents; the same text gives the same."""
    vectors = embeddings.embed_documents(["The sea is blue.", "Bread."])
    query = embeddings.embed_query("The sea is blue.")
    assert len(vectors) == 2 and len(query) == len(vectors[0]) > 1
    assert max(abs(a - b) for a, b in zip(query, vectors[0])) < 1e-3


@check("LangChain ChatOllama")
def _():
    check_chat(chat_ollama())


@check("LangChain OllamaLLM")
def _():
    answer = OllamaLLM(base_url=url, model=model, temperature=0, num_predict=16)
    assert "Dover" in answer.invoke(TEXT)
    assert "".join(answer.stream(TEXT)) == answer.invoke(TEXT)


@check("LangChain ChatOllama, structured")
def _():
    chat = chat_ollama(num_predict=200)
    assert isinstance(chat.with_structured_output(Visit, method="json_schema").invoke(TEXT), Visit)


@check("LangChain OllamaEmbeddings")
def _():
    check_embeddings(OllamaEmbeddings(base_url=url, model=model))


@check("LangChain ChatOpenAI")
def _():
    check_chat(chat_openai())


@check("LangChain OpenAI completions")
def _():
    answer = OpenAI(base_url=url + "/v1", api_key="x", model=model, temperature=0, max_tokens=8)
    text = answer.invoke("The prince went to")
    assert text and "".join(answer.stream("The prince went to")) == text


@check("LangChain ChatOpenAI, structured")
def _():
    for method in ("json_schema", "function_calling"):
        chat = chat_openai(max_tokens=200).with_structured_output(Visit, method=method)
        assert isinstance(chat.invoke(TEXT), Visit), method


@check("LangChain OpenAIEmbeddings")
def _():
    check_embeddings(OpenAIEmbeddings(
        base_url=url + "/v1", api_key="x", model=model, check_embedding_ctx_length=False))


def check_llama(llm):
    """Completes, chats and streams with a LlamaIndex model."""
    answer = llm.complete(TEXT).text
    assert "Dover" in answer, answer
    assert "".join(part.delta or "" for part in llm.stream_complete(TEXT)) == answer
    messages = [ChatMessage(role="user", content=TEXT)]
    said = llm.chat(messages).message.content
    assert "Dover" in said, said
    assert "".join(part.delta or "" for part in llm.stream_chat(messages)) == said
    assert asyncio.run(llm.acomplete(TEXT)).text == answer


@check("LlamaIndex Ollama")
def _():
    check_llama(llama_ollama())


@check("LlamaIndex Ollama, structured")
def _():
    made = llama_ollama(tokens=200).as_structured_llm(Visit).complete(TEXT)
    assert isinstance(made.raw, Visit), made


@check("LlamaIndex OpenAILike")
def _():
    check_llama(llama_openai())
    assert llama_openai(chat=False).complete("The prince went to").text


@check("LlamaIndex OpenAILike, structured")
def _():
    made = llama_openai(tokens=200).as_structured_llm(Visit).complete(TEXT)
    assert isinstance(made.raw, Visit), made


@check("LlamaIndex OllamaEmbedding")
def _():
    embedding = OllamaEmbedding(model_name=model, base_url=url)
    vectors = embedding.get_text_embedding_batch(["The sea is blue.", "Bread."])
    assert len(vectors) == 2 and len(embedding.get_query_embedding("a")) == len(vectors[0])


run_checks(args.only)
