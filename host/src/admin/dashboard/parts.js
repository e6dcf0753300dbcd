// Small parts that several views share.

import { Component, html, useEffect, useReducer, useRef } from "./html.js";
import { ago, dateAndTime } from "./format.js";

export const linkTo = (name) => `#/services/${encodeURIComponent(name.split("@")[0])}`;

const TONES = {
  serving: "good",
  published: "good",
  succeeded: "good",
  rejected: "bad",
  fault: "bad",
  failed: "bad",
  missing: "bad",
  "rolled-back": "warn",
  "last-good": "warn",
  refused: "warn",
  draining: "warn",
  loading: "busy",
};

/** A state in its word and its colour. */
export const State = ({ of }) => html`<span class="state ${TONES[of] ?? "busy"}">${of}</span>`;

/** A revision by the first 12 digits of its digest. */
export const Revision = ({ of, digest }) => html`<code class="revision" title=${digest ?? of}>${of}</code>`;

/** One clock for all that grows old: a table has a thousand of them. */
const clocks = new Set();
setInterval(() => clocks.forEach((look) => look()), 5000);

/** How long ago, with the time itself to be seen. It grows without being told to. */
export function Ago({ at }) {
  const [, draw] = useReducer((count) => count + 1, 0);
  const shown = useRef();
  shown.current = ago(at);
  useEffect(() => {
    const look = () => ago(at) !== shown.current && draw();
    clocks.add(look);
    return () => clocks.delete(look);
  }, [at]);
  return html`<time datetime=${at} title=${dateAndTime(at)}>${shown.current}</time>`;
}

/** Why something failed, and what to do. */
export const Trouble = ({ title, reason, remedy, children }) => html`
  <div class="trouble" role="alert">
    ${title && html`<p class="title">${title}</p>`}
    <p class="reason">${reason}</p>
    ${remedy && html`<p class="remedy"><span>What to do</span> ${remedy}</p>`}
    ${children}
  </div>
`;

/** The same for a Problem of the API. */
export const Refused = ({ problem, title }) => html`<${Trouble} title=${title} reason=${problem.message} remedy=${problem.remedy} />`;

/** Draws its children again only where a property is another: tables have a thousand rows. */
export class Still extends Component {
  shouldComponentUpdate(next) {
    const keys = Object.keys(next);
    return keys.length !== Object.keys(this.props).length || keys.some((key) => !Object.is(next[key], this.props[key]));
  }
}

/** A list of words and what they stand for. */
export const Facts = ({ of }) => html`
  <dl class="facts">
    ${of.filter(([, value]) => value !== null && value !== undefined && value !== "").map(
      ([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`,
    )}
  </dl>
`;
