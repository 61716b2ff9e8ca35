// SPDX-License-Identifier: Apache-2.0
// Requests to this server, with the API key where one is needed. Paths are relative to the page,
// so that the page also works behind a proxy that serves it under a prefix.

const storageName = "api-key";
let askForKey = () => {};

export function whenKeyIsNeeded(ask) {
  askForKey = ask;
}

export function useKey(key) {
  sessionStorage.setItem(storageName, key);
}

/** A GET, or with a body a POST of JSON. Answers with a response that is in order, or throws in words. */
export async function call(path, { body, signal } = {}) {
  const key = sessionStorage.getItem(storageName);
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    sessionStorage.removeItem(storageName);
    askForKey(key !== null);
  }
  const words = await response.json().then(errorText, () => null);
  throw new Error(words ?? `The server answered with status ${response.status}.`);
}

/** The words of {"error": {"message": …}} or {"error": …}; null where there are none. */
export function errorText(value) {
  const words = value?.error?.message ?? value?.error;
  return typeof words === "string" ? words : null;
}
