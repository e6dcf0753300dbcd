// Keeps the state of the page as the host's is: asks again after each event, and now and then.

import { call, calm, follow, onRefusal } from "./api.js";
import { get, set } from "./store.js";
import { added } from "./swaps.js";

/** The host takes a sample every five seconds. */
const FIGURES = 5000;
/** Some changes come without an event, such as shares that are others. */
const SERVICES = 15000;

const KEY = "hotbay-token";

let stream = null;
let timers = [];
let started = null;
/** The last event that was seen of the host that started then. */
let last = null;

/** The token or the ticket of the address, which is taken out of it at once, or the token of this tab. */
export function begin() {
  const given = new URLSearchParams(location.hash.slice(1));
  const ticket = given.get("ticket");
  if (ticket || given.get("token")) history.replaceState(null, "", location.pathname);
  onRefusal(() => {
    sessionStorage.removeItem(KEY);
    end();
    set({ link: "asking", token: null, refused: "The host refuses this token." });
  });
  const token = given.get("token") ?? sessionStorage.getItem(KEY);
  if (ticket) exchange(ticket, token);
  else if (token) enter(token);
  else set({ link: "asking", refused: null });
}

/** Gets the token for a ticket, which is good once; `known` is one of before. */
async function exchange(ticket, known) {
  set({ link: "connecting", refused: null });
  try {
    const headers = { "content-type": "application/json" };
    const { token } = await call("POST", "/v1/tickets/exchange", { json: { ticket }, headers });
    enter(token);
  } catch (problem) {
    if (known) enter(known);
    else set({ link: "asking", refused: `${problem.detail}; ${problem.remedy ?? "paste the token"}` });
  }
}

/** Goes in with a token. */
export function enter(token) {
  sessionStorage.setItem(KEY, token);
  set({ token, link: "connecting", refused: null });
  connect();
}

/** Forgets the token. */
export function leave() {
  sessionStorage.removeItem(KEY);
  end();
  started = last = null;
  set({ link: "asking", token: null, refused: null, services: null, summary: null, history: null, swaps: [], figures: new Map() });
}

function end() {
  stream?.stop();
  stream = null;
  rest();
}

/** Asks no more by the clock. */
function rest() {
  timers.forEach(clearInterval);
  timers = [];
}

function connect() {
  end();
  stream = follow("/v1/events", {
    from: sameHost,
    open: () => {
      set({ link: "live" });
      rest();
      timers = [setInterval(figures, FIGURES), setInterval(soon, SERVICES)];
      soon();
      figures();
    },
    rest,
    lost: (problem, pause) => set({ link: "lost", problem, again: Date.now() + pause }),
    message: ({ id, event, data }) => {
      if (event === "lost") return;
      last = id;
      set({ swaps: added(get().swaps, data), events: get().events + 1 });
      soon();
    },
  });
}

/** A host that was started anew counts its events from 1: what is known of the old one's is told again then. */
async function sameHost(signal) {
  const summary = await call("GET", "/v1/metrics/summary", { signal });
  if (summary.started_at_ms !== started) {
    started = summary.started_at_ms;
    last = null;
    set({ swaps: [] });
  }
  return last;
}

/** Tries now, where the link is lost. */
export const again = () => stream?.now();

/** Asks for the list of services. */
export const soon = calm(async () => {
  try {
    const { services } = await call("GET", "/v1/services");
    set({ services });
  } catch {
    // The stream says that the host is gone.
  }
});

async function figures() {
  if (get().link !== "live") return;
  try {
    const [summary, history] = await Promise.all([call("GET", "/v1/metrics/summary"), call("GET", "/v1/metrics/history")]);
    set({ summary, history, figures: new Map(summary.services.map((one) => [one.name, one])) });
  } catch {
    // As above.
  }
}
