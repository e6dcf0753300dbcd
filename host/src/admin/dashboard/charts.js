// Charts of the last 15 minutes: requests and faults, and how long requests took.

import uPlot from "./vendor/uplot.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { count, rate, took } from "./format.js";
import { colour, onTheme } from "./theme.js";

const WINDOW = 15 * 60;
const HEIGHT = 170;
const still = matchMedia("(prefers-reduced-motion: reduce)");

const last = (values) => values.findLast((value) => value !== null) ?? null;
const most = (values) => Math.max(0, ...values.filter((value) => value !== null));

/** The two charts of a history as /v1/metrics/history has it. */
export function Charts({ history }) {
  if (!history) return html`<div class="charts"><p class="empty">The first figures come in a few seconds.</p></div>`;
  const seconds = history.every_ms / 1000;
  const times = history.at_ms.map((at) => at / 1000);
  const requests = history.requests.map((number) => number / seconds);
  const ms = (us) => (us === null ? null : us / 1000);
  return html`
    <div class="charts">
      <${Chart}
        title="Requests a second" times=${times} unit=${rate}
        lines=${[
          { label: "requests", tone: "--accent", values: requests, fill: true },
          { label: "faults", tone: "--bad", values: history.faults.map((number) => number / seconds) },
        ]}
      />
      <${Chart}
        title="Time of a request" times=${times} unit=${(value) => took(value * 1000)}
        lines=${[
          { label: "p50", tone: "--accent", values: history.p50_us.map(ms) },
          { label: "p99", tone: "--second", values: history.p99_us.map(ms) },
        ]}
      />
    </div>
  `;
}

const said = ({ label, values }, unit) =>
  last(values) === null ? `${label}: none` : `${label}: ${unit(last(values))} at last, ${unit(most(values))} at most`;

function Chart({ title, times, lines, unit }) {
  const place = useRef();
  const plot = useRef();
  const [at, point] = useState(null);
  const [dark, turned] = useState(0);
  useEffect(() => onTheme(() => turned((count) => count + 1)), []);
  const data = [times, ...lines.map((line) => line.values)];
  const now = useRef();
  now.current = data;
  useLayoutEffect(() => {
    const made = new uPlot(options(place.current, lines, unit, point), now.current, place.current);
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: place.current.clientWidth, height: HEIGHT }));
    watch.observe(place.current);
    return () => {
      watch.disconnect();
      made.destroy();
    };
  }, [dark]);
  useLayoutEffect(() => plot.current.setData(data), [times]);
  const text = `${title} in the last 15 minutes. ${lines.map((line) => said(line, unit)).join("; ")}.`;
  return html`
    <figure class="chart">
      <figcaption>
        <span class="title">${title}</span>
        ${lines.map((line) => {
          const value = at === null ? last(line.values) : line.values[at];
          return html`<span class="legend" key=${line.label}>
            <span class="swatch ${line.tone.slice(2)}"></span>${line.label}
            <span class="value">${value === null || value === undefined ? "–" : unit(value)}</span>
          </span>`;
        })}
      </figcaption>
      <div class="plot" role="img" aria-label=${text} ref=${place}></div>
    </figure>
  `;
}

function options(place, lines, unit, point) {
  const [text, grid, font] = [colour("--muted"), colour("--line"), getComputedStyle(document.body).fontFamily];
  const axis = { stroke: text, font: `11px ${font}`, ticks: { show: false } };
  const clear = (tone) => colour(tone).replace("rgb(", "rgba(").replace(")", ", 0.12)");
  return {
    width: place.clientWidth,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    hooks: { setCursor: [(plot) => point(plot.cursor.idx ?? null)] },
    scales: {
      x: { time: true, range: (plot, from, to) => [(to ?? Date.now() / 1000) - WINDOW, to ?? Date.now() / 1000] },
      // Room for a little where there is nothing, so that a flat line lies at the bottom.
      y: { range: (plot, from, to) => [0, Math.max((to ?? 0) * 1.15, 0.1)] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 26, gap: 6, space: 90, values: (plot, ticks) => ticks.map(clock) },
      { ...axis, grid: { stroke: grid, width: 1 }, size: 62, space: 36, values: (plot, ticks) => ticks.map((tick) => (tick ? unit(tick) : "0")) },
    ],
    series: [
      {},
      ...lines.map(({ label, tone, fill }) => ({
        label,
        stroke: colour(tone),
        width: 1.75,
        fill: fill ? clear(tone) : undefined,
        points: { show: (plot, series, from, to) => to - from < 2, size: 5 },
        spanGaps: false,
        paths: still.matches ? uPlot.paths.linear() : undefined,
      })),
    ],
  };
}

const clock = (seconds) => {
  const at = new Date(seconds * 1000);
  return `${at.getHours()}:${String(at.getMinutes()).padStart(2, "0")}`;
};

/** What is most asked for at this moment, as a row of figures. */
export function Tiles({ figures, services }) {
  const states = services.filter((one) => !one.name.includes("@"));
  const serving = states.filter((one) => one.serving).length;
  const rejected = services.filter((one) => one.rejected).length;
  const tile = (label, value, more, tone) => html`
    <div class="tile ${tone ?? ""}" key=${label}><dt>${label}</dt><dd>${value}${more && html` <small>${more}</small>`}</dd></div>
  `;
  return html`
    <dl class="tiles">
      ${tile("Services", count(serving), serving === states.length ? "all serving" : `of ${count(states.length)} serving`)}
      ${tile("Rejected", count(rejected), null, rejected ? "bad" : null)}
      ${tile("Requests a second", figures ? rate(figures.per_second) : "–")}
      ${tile("Running now", figures ? count(figures.in_flight) : "–")}
      ${tile("Faults", figures ? count(figures.faults) : "–", "last minute", figures?.faults ? "bad" : null)}
      ${tile("p50 / p99", figures ? `${took(figures.p50_us)} / ${took(figures.p99_us)}` : "–", "last minute")}
    </dl>
  `;
}
