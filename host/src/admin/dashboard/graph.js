// Who calls whom: drawn, and the same as a list.

import { html, useEffect, useMemo, useState } from "./html.js";
import { call, calm } from "./api.js";
import { count } from "./format.js";
import { BOX, place } from "./layout.js";
import { Refused, State, linkTo } from "./parts.js";
import { useStore } from "./store.js";

const EVERY = 5000;
const LABEL = 18;

const calls = (edge) => edge.calls + edge.typed_calls;
const failed = (edge) => edge.failed + edge.typed_failed;
const kindOf = (edge) => (failed(edge) ? "failed" : edge.callee_state === "missing" || !edge.granted || edge.waits.length ? "loose" : calls(edge) ? "used" : "");
const short = (name) => (name.length > LABEL ? `${name.slice(0, LABEL - 1)}…` : name);

/** /v1/graph, again after each event and now and then: calls are no events. */
function useGraph() {
  const [graph, set] = useState({ edges: null, problem: null });
  const events = useStore((state) => state.events);
  const link = useStore((state) => state.link);
  const asked = useMemo(() => {
    const asked = { over: false };
    asked.soon = calm(async () => {
      if (asked.over) return;
      try {
        const { calls } = await call("GET", "/v1/graph");
        if (!asked.over) set({ edges: calls, problem: null });
      } catch (problem) {
        if (!asked.over) set(({ edges }) => ({ edges, problem: edges ? null : problem }));
      }
    });
    return asked;
  }, []);
  useEffect(asked.soon, [events, link]);
  useEffect(() => {
    const timer = setInterval(asked.soon, EVERY);
    return () => {
      asked.over = true;
      clearInterval(timer);
    };
  }, []);
  return graph;
}

/** How many lines have this end in common. */
const ends = (edges, end, edge) => edges.filter((other) => other[end] === edge[end]).length;

/** A line through `points`, with its arrow before the last of them. */
function pathOf(points, back) {
  const way = back ? -1 : 1;
  const [[x, y], ...rest] = points;
  const bends = rest.map(([x2, y2], at) => {
    const [x1, y1] = points[at];
    const end = at === rest.length - 1 ? x2 - 7 * way : x2;
    // Level where it is led through a layer, bent between two.
    return y1 === y2 ? `L${end},${y2}` : `C${(x1 + x2) / 2},${y1} ${(x1 + x2) / 2},${y2} ${end},${y2}`;
  });
  return `M${x},${y} ${bends.join(" ")}`;
}

const said = (edge) => (failed(edge) ? `${count(calls(edge))}, ${count(failed(edge))} failed` : count(calls(edge)));

/** Where the words of a line stand: on its way through a layer, which no other takes; else nearer to the end that has fewer lines. */
function wordsAt({ points, from, to, back }) {
  if (points.length > 2) return [(points[1][0] + points[2][0]) / 2, points[1][1] - 6];
  const [[x1, y1], [x2, y2]] = points;
  const along = from > to ? 0.7 : from < to ? 0.3 : 0.5;
  const bent = along * along * (3 - 2 * along);
  return [x1 + (x2 - x1) * along, y1 + (y2 - y1) * bent + (back ? 15 : -6)];
}

function Line({ edge, line }) {
  if (!line.points) return null;
  const kind = kindOf(edge);
  const [x, y] = wordsAt(line);
  return html`
    <g class="edge ${kind}">
      <path d=${pathOf(line.points, line.back)} marker-end="url(#arrow-${kind || "idle"})" />
      ${calls(edge) > 0 && html`<text x=${x} y=${y}>${said(edge)}</text>`}
    </g>
  `;
}

function Picture({ edges, states }) {
  // The places stay while only the counts are others.
  const shape = edges.map((edge) => `${edge.caller}>${edge.callee}`).join();
  const { places, lines, width, height } = useMemo(() => {
    const names = [...new Set(edges.flatMap((edge) => [edge.caller, edge.callee]))];
    return place(names, edges);
  }, [shape]);
  const state = (name) => states.get(name) ?? edges.find((edge) => edge.callee === name)?.callee_state ?? "missing";
  const [x, y] = [8, 16];
  return html`
    <div class="scroll graph" tabindex="0" role="group" aria-label="The graph">
      <svg viewBox="${-x} ${-y} ${width + 2 * x} ${height + 2 * y}" width=${width + 2 * x} height=${height + 2 * y} aria-label="Who calls whom; the same stands in the list below">
        <defs>${["idle", "used", "failed", "loose"].map((kind) => html`
          <marker key=${kind} id="arrow-${kind}" class="arrow ${kind}" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8Z" /></marker>`)}</defs>
        ${edges.map((edge, at) => html`<${Line} key=${`${edge.caller}>${edge.callee}`} edge=${edge} line=${{ ...lines[at], from: ends(edges, "caller", edge), to: ends(edges, "callee", edge) }} />`)}
        ${[...places].map(([name, at]) => html`
          <a key=${name} class="node ${state(name)}" href=${linkTo(name)} aria-label="${name}, ${state(name)}">
            <rect x=${at.x} y=${at.y} width=${BOX.width} height=${BOX.height} rx="8" />
            <circle cx=${at.x + 16} cy=${at.y + BOX.height / 2} r="4" />
            <text x=${at.x + 29} y=${at.y + 20}><title>${name}</title>${short(name)}</text>
            <text class="state" x=${at.x + 29} y=${at.y + 35}>${state(name)}</text>
          </a>`)}
      </svg>
    </div>
  `;
}

const List = ({ edges }) => html`
  <div class="scroll" tabindex="0" role="group" aria-labelledby="list">
    <table>
      <thead><tr><th scope="col">Caller</th><th scope="col">Callee</th><th scope="col">State</th><th scope="col">By</th><th scope="col" class="number">Calls</th><th scope="col" class="number">Failed</th></tr></thead>
      <tbody>${edges.map((edge) => html`
        <tr key=${`${edge.caller}>${edge.callee}`}>
          <th scope="row"><a href=${linkTo(edge.caller)}>${edge.caller}</a></th>
          <td>${edge.callee_state === "missing" ? edge.callee : html`<a href=${linkTo(edge.callee)}>${edge.callee}</a>`}</td>
          <td><${State} of=${edge.callee_state} />${edge.waits.length ? html` <span class="flag">${edge.caller} waits for it</span>` : !edge.granted && html` <span class="flag">no longer granted</span>`}</td>
          <td>${edge.interfaces.length + edge.waits.length ? [...edge.interfaces, ...edge.waits].map((one) => html`<code key=${one}>${one}</code> `) : "HTTP"}</td>
          <td class="number">${count(calls(edge))}</td>
          <td class="number ${failed(edge) ? "bad" : ""}">${count(failed(edge))}</td>
        </tr>`)}</tbody>
    </table>
  </div>
`;

export function Calls() {
  const { edges, problem } = useGraph();
  const services = useStore((state) => state.services) ?? [];
  const states = new Map(services.map((one) => [one.name, one.state]));
  return html`
    <h1 id="title" tabindex="-1">Calls</h1>
    <p class="lead">Which service may call which, and how often it did since the host, or the caller, was started.</p>
    ${problem && html`<${Refused} problem=${problem} />`}
    ${edges?.length === 0 && html`<p class="empty">No service may call another. <code>[grants] calls = ["NAME"]</code> in the settings of a service lets it call NAME.</p>`}
    ${edges?.length > 0 && html`
      <section class="card" aria-label="The graph as a picture"><${Picture} edges=${edges} states=${states} />
        <p class="key"><span class="used">called</span><span class="idle">may be called</span><span class="failed">some calls failed</span><span class="loose">missing, or no longer granted</span></p>
      </section>
      <section class="card" aria-labelledby="list"><div class="bar"><h2 id="list">As a list</h2></div><${List} edges=${edges} /></section>
    `}
  `;
}
