// One service: what serves, what was before, what it may use, and what can be done with it.

import { html, useEffect, useState } from "./html.js";
import { call, pathOf } from "./api.js";
import { Charts } from "./charts.js";
import { FileButton } from "./deploy.js";
import { Confirm } from "./dialogs.js";
import { bytes, count, rate, span, took, until } from "./format.js";
import { Lines } from "./logs.js";
import { Ago, Facts, Revision, State, Trouble } from "./parts.js";
import { Settings } from "./settings.js";
import { useStore } from "./store.js";
import { Timeline } from "./swaps.js";
import { Weights } from "./weights.js";

const FIGURES = 5000;

/** What `ask` answers, again when one of `when` is another and every `every` milliseconds. */
function useAsked(ask, when, every) {
  const [answer, set] = useState(null);
  useEffect(() => {
    let over = false;
    const look = () => ask().then((answer) => over || set(answer), () => {});
    look();
    const timer = every && setInterval(look, every);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, when);
  return answer;
}

export function Service({ name }) {
  const services = useStore((state) => state.services);
  const figures = useStore((state) => state.figures.get(name));
  const link = useStore((state) => state.link);
  const series = useAsked(() => call("GET", `/v1/metrics/history?service=${encodeURIComponent(name)}`), [name, link], FIGURES);
  const [asked, ask] = useState(null);
  if (!services) return html`<p class="empty" role="status">Asking the host…</p>`;
  const one = services.find((service) => service.name === name);
  const labelled = services.filter((service) => service.name.startsWith(`${name}@`));
  if (!one && !labelled.length) return html`<${Gone} name=${name} />`;
  const main = one ?? { name, state: "loading", serving: null, rejected: null, draining: [], cron: [], missing: [] };
  const isFile = name.includes(".");
  return html`
    <p class="way"><a href="#/">Services</a> <span aria-hidden="true">/</span></p>
    <div class="bar title">
      <h1 id="title" tabindex="-1">${name}</h1>
      <${State} of=${main.state} />
      ${main.serving && html`<${Revision} of=${main.serving.revision} digest=${main.serving.digest} />`}
      <span class="grow"></span>
      ${!isFile && html`
        <${FileButton} label="Deploy" />
        <button type="button" onClick=${() => ask({ what: "back" })}>Roll back…</button>
        <button type="button" onClick=${() => ask({ what: "settings" })}>Settings…</button>
        <button type="button" class="danger" onClick=${() => ask({ what: "remove" })}>Remove…</button>
      `}
    </div>
    ${[main, ...labelled].filter((one) => one.rejected).map((one) => html`<${Reject} key=${one.name} one=${one} />`)}
    ${main.serving?.reason && html`<${Trouble} title="It is not what lies in the bay that serves" reason=${main.serving.reason} />`}
    ${main.missing.length > 0 && html`<p class="warning">It may call <strong>${main.missing.join(", ")}</strong>, which ${main.missing.length > 1 ? "are" : "is"} not in the bay.</p>`}
    ${main.serving && html`
      <section class="card" aria-label="What serves"><${Serving} of=${main.serving} figures=${figures} draining=${main.draining} /></section>
      <${Charts} history=${series} />
    `}
    ${labelled.length > 0 && html`<${Weights} main=${main} labelled=${labelled} />`}
    ${!isFile && html`<section class="card" aria-labelledby="lines"><${Lines} key=${name} service=${name} /></section>`}
    <div class="columns">
      ${main.serving && html`<${Limits} limits=${main.serving.limits} />`}
      <section class="card" aria-labelledby="swaps"><div class="bar"><h2 id="swaps">Swaps</h2></div><${Timeline} service=${name} most=${8} /></section>
    </div>
    ${main.cron.length > 0 && html`<${Cron} entries=${main.cron} />`}
    ${!isFile && html`<${History} name=${name} onBack=${(to) => ask({ what: "back", to })} />`}
    ${asked?.what === "settings" && html`<${Settings} name=${name} onClose=${() => ask(null)} />`}
    ${asked?.what === "back" && html`<${Back} name=${name} to=${asked.to} onClose=${() => ask(null)} />`}
    ${asked?.what === "remove" && html`
      <${Confirm} title="Remove ${name}?" action="Remove ${name}" danger=${true} onClose=${() => ask(null)}
        work=${() => call("DELETE", pathOf(name))} said=${() => `${name} is removed. It can be gone back to.`}>
        <p>Its files are taken out of the bay. New requests get 404; what runs finishes. What it keeps stays, and it can be rolled back to.</p>
      <//>`}
  `;
}

const Reject = ({ one }) => html`
  <${Trouble} title=${one.serving ? `The last files of ${one.name} were rejected; what served goes on` : `${one.name} was rejected`}
    reason=${one.rejected.reason} remedy=${one.rejected.remedy}>
    <p class="muted">${one.rejected.revision && html`<${Revision} of=${one.rejected.revision} />, `}<${Ago} at=${one.rejected.at} /></p>
  <//>
`;

function Gone({ name }) {
  const [asked, ask] = useState(null);
  return html`
    <p class="way"><a href="#/">Services</a> <span aria-hidden="true">/</span></p>
    <h1 id="title" tabindex="-1">${name}</h1>
    <p class="empty">There is no service of this name in the bay.</p>
    <p><button type="button" onClick=${() => ask({})}>Roll back to what it was…</button></p>
    <${History} name=${name} onBack=${(to) => ask({ to })} />
    ${asked && html`<${Back} name=${name} to=${asked.to} onClose=${() => ask(null)} />`}
  `;
}

const Back = ({ name, to, onClose }) => html`
  <${Confirm} title="Roll ${name} back?" action="Roll back" onClose=${onClose}
    work=${() => call("POST", pathOf(name, "/rollback"), { json: to ? { to } : {} })}
    said=${(outcome) => `${name} runs on ${outcome.revision} again.`}>
    <p>${to ? html`To <code>${to}</code>` : "To the good revision before the one that serves"}: its build and its settings are put back into the bay as they were.</p>
  <//>
`;

const Serving = ({ of, figures, draining }) => html`
  <${Facts} of=${[
    ["Routes", of.routes.length ? of.routes.map((route) => html`<code key=${route}>${route}</code> `) : "none: other services import its interfaces"],
    ["Kind", of.kind],
    ["Published", html`<${Ago} at=${of.published_at} />, by ${of.came}`],
    ["Requests a second", figures ? rate(figures.per_second) : "0"],
    ["Running now", count(figures?.in_flight ?? of.in_flight)],
    ["Requests", html`${count(of.requests)} <span class="muted">since it was published</span>`],
    ["Faults", html`${count(of.faults)} <span class="muted">since then</span>`],
    ["p50 / p99", html`${took(of.p50_us)} / ${took(of.p99_us)} <span class="muted">since then</span>`],
    ["Grants", of.grants.length ? of.grants.map((grant) => html`<code key=${grant}>${grant}</code> `) : "none"],
    ["Draining", draining.length ? draining.map((one) => html`<${Revision} key=${one.revision} of=${one.revision} /> `) : null],
  ]} />
`;

/** How near a limit is, where that can be told. */
function nowOf({ limit, now }) {
  if (now === null || now === undefined) return html`<span class="muted">–</span>`;
  return limit === "memory" ? bytes(now) : count(now);
}

const Limits = ({ limits }) => html`
  <section class="card" aria-labelledby="limits">
    <div class="bar"><h2 id="limits">Limits</h2></div>
    <table>
      <thead><tr><th scope="col">Limit</th><th scope="col" class="number">Value</th><th scope="col" class="number">Now</th><th scope="col" class="number">Reached</th></tr></thead>
      <tbody>${limits.map((one) => html`
        <tr key=${one.limit}><th scope="row"><code>${one.limit}</code></th><td class="number">${one.value}</td><td class="number">${nowOf(one)}</td>
          <td class="number ${one.reached ? "bad" : "muted"}">${count(one.reached)}</td></tr>`)}</tbody>
    </table>
  </section>
`;

const Cron = ({ entries }) => html`
  <section class="card" aria-labelledby="cron">
    <div class="bar"><h2 id="cron">By the clock</h2></div>
    <div class="scroll" tabindex="0" role="group" aria-labelledby="cron">
      <table>
        <thead><tr><th scope="col">Schedule</th><th scope="col">Request</th><th scope="col">Next</th><th scope="col">Last</th><th scope="col" class="number">Runs</th><th scope="col" class="number">Missed</th></tr></thead>
        <tbody>${entries.map((entry, place) => html`
          <tr key=${place}>
            <th scope="row"><code>${entry.schedule}</code> <span class="muted">${entry.timezone}</span></th>
            <td><code>${entry.method} ${entry.path}</code></td>
            <td>${entry.running ? "runs now" : entry.next ? until(entry.next) : "–"}</td>
            <td>${entry.last ? html`<span title=${entry.last.reason}><${State} of=${entry.last.result} /> ${entry.last.status}, ${took(entry.last.took_us)}, <${Ago} at=${entry.last.at} /></span>` : "–"}</td>
            <td class="number">${count(entry.runs)}</td><td class="number">${count(entry.missed)}</td>
          </tr>`)}</tbody>
      </table>
    </div>
  </section>
`;

function History({ name, onBack }) {
  const revision = useStore((state) => state.services?.find((one) => one.name === name)?.serving?.published_at);
  const past = useAsked(() => call("GET", pathOf(name, "/history")), [name, revision]);
  if (!past?.revisions.length) return null;
  return html`
    <section class="card" aria-labelledby="history">
      <div class="bar"><h2 id="history">History</h2></div>
      <div class="scroll" tabindex="0" role="group" aria-labelledby="history">
        <table>
          <thead><tr><th scope="col">Number</th><th scope="col">Revision</th><th scope="col">Came by</th><th scope="col">Published</th><th scope="col" class="number">Served</th><th scope="col" class="number">Size</th><th scope="col">End</th><th scope="col"><span class="hidden">What can be done</span></th></tr></thead>
          <tbody>${past.revisions.map((one) => html`
            <tr key=${one.number}>
              <th scope="row">v${one.number}</th>
              <td><${Revision} of=${one.revision} digest=${one.digest} />${one.settings && html` <span class="flag" title=${one.settings}>settings</span>`}</td>
              <td>${one.came}</td>
              <td class="muted"><${Ago} at=${one.published_at} /></td>
              <td class="number">${one.serving ? html`<${State} of="serving" />` : span(one.served_ms / 1000)}</td>
              <td class="number">${bytes(one.size)}</td>
              <td title=${one.ended?.reason}>${one.ended?.how ?? (one.serving ? "" : "–")}</td>
              <td class="acts">${!one.serving && html`<button type="button" class="small" onClick=${() => onBack(`v${one.number}`)}>Go back<span class="hidden"> to v${one.number}</span></button>`}</td>
            </tr>`)}</tbody>
        </table>
      </div>
    </section>
  `;
}
