// Swaps: events put together to what they are steps of, and the timeline that shows them.

import { html } from "./html.js";
import { Ago, Revision, State, linkTo } from "./parts.js";
import { took } from "./format.js";
import { useStore } from "./store.js";

const KEPT = 200;
const STEPS = ["reading", "compiling", "linking", "warming"];

const nameOf = ({ service, label }) => (label ? `${service}@${label}` : service);

/** The swaps, the newest first, after one more event. */
export function added(swaps, event) {
  const name = nameOf(event);
  const of = (test) => swaps.findIndex((swap) => swap.name === name && test(swap));
  const change = (place, more) => swaps.map((swap, at) => (at === place ? { ...swap, ...more } : swap));
  const begin = (more) => [{ id: event.sequence, name, at: event.at, outcome: null, steps: [], ...more }, ...swaps].slice(0, KEPT);
  const open = of((swap) => swap.outcome === null);
  const revision = event.revision ?? undefined;
  switch (event.state) {
    case "detected":
      return begin({ revision });
    case "draining":
    case "retired": {
      // The end of the revision that was replaced belongs to the swap that replaced it.
      const drained = of((swap) => swap.drain?.revision === event.revision && swap.drain.state === "draining");
      const replaced = of((swap) => swap.outcome === "published" && !swap.drain && swap.revision !== event.revision);
      const place = drained >= 0 ? drained : replaced;
      const drain = { revision: event.revision, state: event.state, took: event.took_us, reason: event.reason };
      if (place >= 0 && (drained >= 0 || !event.reason)) return change(place, { drain });
      return event.state === "draining" ? begin({ outcome: "removed", reason: event.reason, drain }) : swaps;
    }
    case "published":
    case "rejected":
    case "rolled-back": {
      const ended = { outcome: event.state, took: event.took_us, reason: event.reason, remedy: event.remedy };
      if (event.state === "rolled-back" || open < 0) return begin({ revision, ...ended });
      return change(open, { ...ended, revision: revision ?? swaps[open].revision });
    }
    default: {
      const step = { name: event.state, took: event.took_us };
      if (open < 0) return begin({ revision, steps: [step] });
      return change(open, { revision: revision ?? swaps[open].revision, steps: [...swaps[open].steps, step] });
    }
  }
}

/** The step that comes after those that have ended. */
const next = (swap) => STEPS[STEPS.indexOf(swap.steps.at(-1)?.name) + 1] ?? "publishing";

function Steps({ swap }) {
  const sum = swap.steps.reduce((sum, step) => sum + step.took, 0) || 1;
  return html`
    <ol class="steps" aria-label="Steps">
      ${swap.steps.map(
        ({ name, took: us }) => html`
          <li key=${name} class="step ${name}" style=${{ flexGrow: Math.max(us / sum, 0.02) }}>
            <span class="track"></span><span class="what">${name}</span> <span class="time">${took(us)}</span>
          </li>
        `,
      )}
      ${swap.outcome === null && html`<li class="step running" style=${{ flexGrow: 0.2 }}><span class="track"></span><span class="what">${next(swap)}…</span></li>`}
    </ol>
  `;
}

const Drain = ({ drain }) => html`
  <p class="drain">
    <${Revision} of=${drain.revision} /> ${drain.state === "draining" ? "drains" : `retired after ${took(drain.took)}`}
    ${drain.reason && html` <span class="muted">(${drain.reason})</span>`}
  </p>
`;

export function Swap({ swap, bare }) {
  return html`
    <li class="swap">
      <div class="head">
        ${!bare && html`<a class="name" href=${linkTo(swap.name)}>${swap.name}</a>`}
        <${State} of=${swap.outcome ?? "under way"} />
        ${swap.revision && html`<${Revision} of=${swap.revision} />`}
        <span class="grow"></span>
        ${swap.took > 0 && html`<span class="time total" title="From the moment it was detected">${took(swap.took)}</span>`}
        <span class="muted when"><${Ago} at=${swap.at} /></span>
      </div>
      ${swap.steps.length + (swap.outcome === null) > 0 && html`<${Steps} swap=${swap} />`}
      ${swap.reason && html`<p class="reason">${swap.reason}</p>`}
      ${swap.remedy && html`<p class="remedy"><span>What to do</span> ${swap.remedy}</p>`}
      ${swap.drain && html`<${Drain} drain=${swap.drain} />`}
    </li>
  `;
}

/** The timeline: of one service and its labels, or of all. */
export function Timeline({ service, most = KEPT }) {
  const all = useStore((state) => state.swaps);
  const shown = (service ? all.filter((swap) => swap.name.split("@")[0] === service) : all).slice(0, most);
  if (!shown.length) return html`<p class="empty">Nothing has been swapped since the host started.</p>`;
  return html`<ol class="timeline">${shown.map((swap) => html`<${Swap} key=${swap.id} swap=${swap} bare=${service === swap.name} />`)}</ol>`;
}

export const Swaps = () => html`
  <section aria-labelledby="title">
    <h1 id="title" tabindex="-1">Swaps</h1>
    <p class="lead">Each change of the bay, with its steps, as they happen.</p>
    <${Timeline} />
  </section>
`;
