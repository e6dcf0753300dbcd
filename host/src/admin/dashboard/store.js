// The state of the page: one object, changed by `set`, read by components through `useStore`.

import { useLayoutEffect, useReducer, useRef } from "./html.js";

const state = {
  /** The token, once the host took it. */
  token: null,
  /** `asking` (for the token), `connecting`, `live` or `lost`. */
  link: "connecting",
  /** Why the token is asked for, where one was refused. */
  refused: null,
  /** Why the link is lost, and when the next attempt is. */
  problem: null,
  again: 0,
  /** All services as /v1/services has them; null before the first answer. */
  services: null,
  /** /v1/metrics/summary, and the figures of its services by their name. */
  summary: null,
  figures: new Map(),
  /** /v1/metrics/history of the host. */
  history: null,
  /** Swaps, the newest first. */
  swaps: [],
  /** Counts the events: what was shown may be another after each. */
  events: 0,
  /** What was done, for a few seconds. */
  notices: [],
  /** Files that wait for the deploy dialog. */
  deploying: null,
  /** Where the page is: its parts, decoded. */
  route: [],
};

const listeners = new Set();

export const get = () => state;

export function set(change) {
  Object.assign(state, change);
  for (const listener of [...listeners]) listener();
}

/** What `select` picks of the state; the component is drawn again when that is another. */
export function useStore(select) {
  const [, draw] = useReducer((count) => count + 1, 0);
  const now = useRef();
  now.current = { select, picked: select(state) };
  useLayoutEffect(() => {
    const look = () => {
      const { select, picked } = now.current;
      if (!Object.is(select(state), picked)) draw();
    };
    listeners.add(look);
    look();
    return () => listeners.delete(look);
  }, []);
  return now.current.picked;
}

let noticed = 0;

/** Says that something was done. */
export function notice(text, kind = "good") {
  const id = ++noticed;
  set({ notices: [...state.notices, { id, text, kind }] });
  setTimeout(() => forget(id), kind === "bad" ? 15000 : 6000);
}

export function forget(id) {
  set({ notices: state.notices.filter((one) => one.id !== id) });
}
