// The list of all services, with what is asked of them now.

import { html, useMemo, useState } from "./html.js";
import { Ago, Revision, State, Still, linkTo } from "./parts.js";
import { count, rate, took } from "./format.js";
import { useStore } from "./store.js";
import { Charts, Tiles } from "./charts.js";
import { Timeline } from "./swaps.js";
import { FileButton } from "./deploy.js";

const text = (one, other) => one.localeCompare(other, "en");
const number = (one, other) => (other ?? -1) - (one ?? -1);

/** A column: its head, what is told under it of a row, and how rows are sorted by it. */
const COLUMNS = [
  { key: "name", label: "Service", by: (row) => row.name, order: text },
  { key: "state", label: "State", by: (row) => row.state, order: text },
  { key: "revision", label: "Revision", wide: 2, by: (row) => row.serving?.revision ?? "", order: text },
  { key: "routes", label: "Routes", wide: 3, by: (row) => row.serving?.routes[0] ?? "", order: text },
  { key: "rate", label: "Req/s", number: true, title: "Requests a second, over the last 5 seconds", by: (row) => row.figures?.per_second, order: number },
  { key: "flight", label: "Running", number: true, wide: 2, title: "Requests that run now", by: (row) => row.figures?.in_flight ?? 0, order: number },
  { key: "faults", label: "Faults", number: true, wide: 1, title: "Guests that failed in the last minute", by: (row) => row.figures?.faults ?? 0, order: number },
  { key: "p50", label: "p50", number: true, wide: 2, title: "Half of the requests of the last minute took no longer", by: (row) => row.figures?.p50_us, order: number },
  { key: "p99", label: "p99", number: true, title: "99 of 100 requests of the last minute took no longer", by: (row) => row.figures?.p99_us, order: number },
  { key: "swap", label: "Last swap", wide: 1, by: (row) => row.serving?.published_at ?? row.since, order: (one, other) => text(other, one) },
];

/** Columns that a narrow window leaves out. */
const wide = ({ wide }) => (wide ? `wide-${wide}` : "");

class Row extends Still {
  render({ name, state, revision, digest, routes, share, reason, rate: perSecond, flight, faults, p50, p99, at }) {
    // A labelled revision is counted with its service.
    const none = html`<span class="muted">${name.includes("@") ? "–" : "0"}</span>`;
    return html`
      <tr>
        <th scope="row">
          <a href=${linkTo(name)}>${name}</a>
          ${share !== null && html` <span class="share" title="Its share of the requests">${share} %</span>`}
        </th>
        <td title=${reason}><${State} of=${state} />${reason && state !== "rejected" && html` <span class="flag bad">reject</span>`}</td>
        <td class="wide-2">${revision ? html`<${Revision} of=${revision} digest=${digest} />` : "–"}</td>
        <td class="wide-3 routes">${routes || "–"}</td>
        <td class="number">${perSecond ? rate(perSecond) : none}</td>
        <td class="number wide-2">${flight ? count(flight) : none}</td>
        <td class="number wide-1 ${faults ? "bad" : ""}">${faults ? count(faults) : none}</td>
        <td class="number wide-2">${took(p50)}</td>
        <td class="number">${took(p99)}</td>
        <td class="wide-1 muted"><${Ago} at=${at} /></td>
      </tr>
    `;
  }
}

const rowOf = ({ name, state, share, since, serving, rejected, figures }) => html`
  <${Row} key=${name} name=${name} state=${state} share=${share ?? null} reason=${rejected?.reason}
    revision=${serving?.revision} digest=${serving?.digest} routes=${serving?.routes.join(", ")}
    rate=${figures?.per_second ?? 0} flight=${figures?.in_flight ?? 0} faults=${figures?.faults ?? 0}
    p50=${figures?.p50_us} p99=${figures?.p99_us} at=${serving?.published_at ?? since} />
`;

function Head({ column, sort, onSort }) {
  const is = sort.key === column.key;
  // Before a number's name, so that it ends where the numbers end.
  const arrow = is && html`<span class="arrow" aria-hidden="true">${sort.back ? "↓" : "↑"}</span>`;
  return html`
    <th scope="col" class="${column.number ? "number" : ""} ${wide(column)}" aria-sort=${is ? (sort.back ? "descending" : "ascending") : undefined}>
      <button type="button" class="sort" title=${column.title} onClick=${() => onSort({ key: column.key, back: is && !sort.back })}>
        ${column.number && arrow}${column.label}${!column.number && arrow}
      </button>
    </th>
  `;
}

export function Table({ services }) {
  const figures = useStore((state) => state.figures);
  const [filter, setFilter] = useState("");
  const [sort, setSort] = useState({ key: "name", back: false });
  const rows = useMemo(() => {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (one) => {
      const all = [one.name, one.state, one.serving?.revision, ...(one.serving?.routes ?? [])].join(" ").toLowerCase();
      return words.every((word) => all.includes(word));
    };
    const column = COLUMNS.find(({ key }) => key === sort.key);
    const order = (one, other) => column.order(column.by(one), column.by(other)) || text(one.name, other.name);
    const shown = services.filter(fits).map((one) => ({ ...one, figures: figures.get(one.name) }));
    shown.sort(sort.back ? (one, other) => order(other, one) : order);
    return shown;
  }, [services, figures, filter, sort]);
  return html`
    <div class="bar">
      <h2 id="services">Services</h2>
      <label class="filter"><span class="hidden">Filter services</span>
        <input type="search" placeholder="Filter by name, state, route" value=${filter} onInput=${(event) => setFilter(event.target.value)} />
      </label>
      <span class="muted" role="status">${rows.length === services.length ? count(rows.length) : `${count(rows.length)} of ${count(services.length)}`}</span>
      <span class="grow"></span>
      <${FileButton} />
    </div>
    <div class="scroll" tabindex="0" role="group" aria-labelledby="services">
      <table class="services">
        <thead><tr>${COLUMNS.map((column) => html`<${Head} key=${column.key} column=${column} sort=${sort} onSort=${setSort} />`)}</tr></thead>
        <tbody>${rows.map(rowOf)}</tbody>
      </table>
      ${!rows.length && html`<p class="empty">No service fits this filter.</p>`}
    </div>
  `;
}

const Empty = () => html`
  <div class="welcome">
    <svg viewBox="0 0 48 48" aria-hidden="true"><path d="M24 6v22m0 0-8-8m8 8 8-8M8 30v8a4 4 0 0 0 4 4h24a4 4 0 0 0 4-4v-8" /></svg>
    <h2>The bay is empty</h2>
    <p>Drop a <code>.wasm</code> file anywhere on this page, and it serves.</p>
    <p><${FileButton} primary=${true} label="Choose a file" /></p>
    <p class="muted">Or copy one into the bay: <code>cp hello.wasm BAY/</code>. To write a first service: <code>hotbay new hello --lang rust</code>.</p>
  </div>
`;

export function Services() {
  const services = useStore((state) => state.services);
  const history = useStore((state) => state.history);
  const summary = useStore((state) => state.summary);
  if (!services) return html`<p class="empty" role="status">Asking the host…</p>`;
  return html`
    <h1 id="title" class="hidden" tabindex="-1">Services</h1>
    ${services.length === 0
      ? html`<${Empty} />`
      : html`
          <${Tiles} figures=${summary?.host} services=${services} />
          <${Charts} history=${history} />
          <section class="card" aria-labelledby="services"><${Table} services=${services} /></section>
          <section class="recent" aria-labelledby="recent">
            <div class="bar"><h2 id="recent">Latest swaps</h2><span class="grow"></span><a href="#/swaps">All swaps</a></div>
            <${Timeline} most=${5} />
          </section>
        `}
  `;
}
