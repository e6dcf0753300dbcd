// The way to the host: calls with the token, uploads with their progress, and event streams that go on after a break.

import { get } from "./store.js";

/** An answer that is no success, or that did not come (`status` 0). */
export class Problem extends Error {
  constructor(status, detail, remedy) {
    super(detail);
    Object.assign(this, { status, detail, remedy });
  }
}

const away = () => new Problem(0, "The host does not answer.", "See whether it runs; the page tries again by itself.");

const headersOf = (more) => ({ authorization: `Bearer ${get().token}`, ...more });

function problemOf(status, text) {
  try {
    const { detail, remedy } = JSON.parse(text);
    if (detail) return new Problem(status, detail, remedy);
  } catch {
    // Not from the host: a proxy between, say.
  }
  return new Problem(status, `The answer has status ${status}, and says nothing that is understood.`);
}

let refused = () => {};

/** Told when the host refuses the token. */
export function onRefusal(listener) {
  refused = listener;
}

function failed(status, text) {
  if (status === 401) refused();
  return problemOf(status, text);
}

async function answer(method, path, { json, body, headers, signal } = {}) {
  const sent = json === undefined ? { body } : { body: JSON.stringify(json) };
  // An order takes as long as it takes.
  signal ??= method === "GET" ? AbortSignal.timeout(SILENCE) : undefined;
  let response, text;
  try {
    response = await fetch(path, { method, ...sent, headers: headersOf(headers), signal, cache: "no-store", redirect: "error" });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw away();
  }
  if (!response.ok) throw failed(response.status, text);
  return { text, headers: response.headers };
}

/** One call; the answer as JSON, or as text where it is none. */
export async function call(method, path, more) {
  const { text, headers } = await answer(method, path, more);
  return (headers.get("content-type") ?? "").includes("json") ? JSON.parse(text) : text;
}

/** A text, and the tag that names it: with that in `if-match` nobody else's is overwritten. */
export async function tagged(path) {
  const { text, headers } = await answer("GET", path);
  return { text, tag: headers.get("etag") };
}

export const pathOf = (name, more = "") => `/v1/services/${encodeURIComponent(name)}${more}`;

/** Sends a file; `progress` is told the share that has gone, from 0 to 1. */
export function upload(path, file, headers, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", path);
    for (const [name, value] of Object.entries(headersOf(headers))) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.upload.onload = () => progress(1);
    request.onerror = () => reject(away());
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(failed(request.status, request.responseText));
    };
    request.send(file);
  });
}

/** What is asked again after each event is asked at most this often. */
const CALM = 250;

/** `ask`, to be called as often as one likes: once at a time, not too often, and what takes long less often. The last call counts. */
export function calm(ask) {
  let busy = false;
  let wanted = false;
  return function soon() {
    if (busy) {
      wanted = true;
      return;
    }
    busy = true;
    const begun = performance.now();
    ask().finally(() => {
      const rest = Math.max(CALM, (performance.now() - begun) * 5);
      setTimeout(() => {
        busy = false;
        if (!wanted) return;
        wanted = false;
        soon();
      }, rest);
    });
  };
}

const PAUSE_MIN = 500;
const PAUSE_MAX = 10000;
/** The host says something every 15 seconds. */
const SILENCE = 40000;
/** A hidden page lets its streams go after this: browsers have six connections for one host, and each stream takes one. */
const HIDDEN = 20000;

/**
 * Follows server-sent events with the token, which an EventSource cannot send. After a break it goes on from the last id, with a
 * growing pause between attempts. A page that is hidden rests, and goes on when it is looked at. `on` may have `open`,
 * `message({ id, event, data })`, `lost(error, pause)`, `rest()`, and `from(signal)`, asked before each attempt for the id to go on
 * from, which ends with the signal. Returns `{ stop, now }`.
 */
export function follow(path, on) {
  const state = { last: null, pause: PAUSE_MIN, stopped: false, resting: document.hidden, wake: () => {}, abort: new AbortController() };
  const woken = () => new Promise((resolve) => (state.wake = resolve));
  let hiding = 0;
  const seen = () => {
    clearTimeout(hiding);
    if (document.hidden) {
      hiding = setTimeout(() => {
        state.resting = true;
        state.abort.abort();
        state.wake();
      }, HIDDEN);
    } else if (state.resting) {
      state.resting = false;
      state.wake();
    }
  };
  const run = async () => {
    while (!state.stopped) {
      if (state.resting) {
        on.rest?.();
        await woken();
        continue;
      }
      let error;
      try {
        await once(path, on, state);
        error = away();
      } catch (caught) {
        error = caught instanceof Problem ? caught : away();
      }
      if (state.stopped || error.status === 401) return;
      if (state.resting) continue;
      on.lost?.(error, state.pause);
      const timer = setTimeout(() => state.wake(), state.pause * (0.8 + Math.random() * 0.4));
      await woken();
      clearTimeout(timer);
      state.pause = Math.min(state.pause * 2, PAUSE_MAX);
    }
  };
  document.addEventListener("visibilitychange", seen);
  run();
  return {
    stop: () => {
      document.removeEventListener("visibilitychange", seen);
      clearTimeout(hiding);
      state.stopped = true;
      state.abort.abort();
      state.wake();
    },
    now: () => state.wake(),
  };
}

async function once(path, on, state) {
  state.abort = new AbortController();
  let silence = setTimeout(() => state.abort.abort(), SILENCE);
  try {
    if (on.from) state.last = await on.from(state.abort.signal);
    const resumed = state.last === null ? {} : { "last-event-id": state.last };
    const response = await fetch(path, { headers: headersOf(resumed), signal: state.abort.signal, cache: "no-store" });
    if (!response.ok) throw failed(response.status, await response.text());
    state.pause = PAUSE_MIN;
    on.open?.();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => state.abort.abort(), SILENCE);
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const message = read(block);
        if (!message) continue;
        if (message.id !== null) state.last = message.id;
        on.message(message);
      }
    }
  } finally {
    clearTimeout(silence);
  }
}

/** One event; null where it is only a comment. */
function read(block) {
  const fields = { id: null, event: "message", data: null };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon < 1) continue;
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (name in fields) fields[name] = name === "data" && fields.data !== null ? `${fields.data}\n${value}` : value;
  }
  return fields.data === null ? null : { ...fields, data: JSON.parse(fields.data) };
}
