// What guests write, followed as they write it.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { follow } from "./api.js";
import { timeOfDay } from "./format.js";
import { Refused } from "./parts.js";
import { useStore } from "./store.js";

const KEPT = 1000;
/** Lines that come at once are drawn at once. */
const PAUSE = 100;

/** The lines of a service, or of all, from the moment at which they are looked at. */
function useLines(service, paused) {
  const [lines, set] = useState([]);
  const [link, setLink] = useState({ live: false, problem: null });
  const held = useRef(paused);
  held.current = paused;
  const clear = () => set([]);
  useEffect(() => {
    let number = 0;
    let waiting = [];
    let wasLive = false;
    set([]);
    const say = (text) => waiting.push({ at: Date.now(), level: "warn", text, id: ++number });
    const timer = setInterval(() => {
      if (held.current || !waiting.length) return;
      const come = waiting;
      waiting = [];
      set((lines) => [...lines, ...come].slice(-KEPT));
    }, PAUSE);
    const query = service ? `?service=${encodeURIComponent(service)}` : "";
    const stream = follow(`/v1/logs${query}`, {
      open: () => {
        if (wasLive) say("Lines may be missing before this one: they were not followed for a while");
        wasLive = true;
        setLink({ live: true, problem: null });
      },
      rest: () => setLink({ live: false, problem: null }),
      // That nobody answers is said at the top.
      lost: (problem) => setLink({ live: false, problem: problem.status ? problem : null }),
      message: ({ event, data }) => {
        if (event === "lost") say(`${data.lost} lines were lost: they came too fast`);
        else waiting.push({ ...data, id: ++number });
        // Of a flood that nobody looks at, the newest stay.
        if (waiting.length > KEPT) waiting.shift();
      },
    });
    return () => {
      clearInterval(timer);
      stream.stop();
    };
  }, [service]);
  return { lines, link, clear };
}

export function Lines({ service, tall }) {
  const [paused, pause] = useState(false);
  const [filter, setFilter] = useState("");
  const { lines, link: { live, problem }, clear } = useLines(service, paused);
  const place = useRef();
  const atEnd = useRef(true);
  const words = filter.toLowerCase();
  const shown = words ? lines.filter((line) => `${line.service ?? ""} ${line.level} ${line.text}`.toLowerCase().includes(words)) : lines;
  useLayoutEffect(() => {
    if (atEnd.current) place.current.scrollTop = place.current.scrollHeight;
  }, [shown]);
  const scrolled = () => {
    // It may be told of it after its end.
    if (!place.current) return;
    const { scrollTop, scrollHeight, clientHeight } = place.current;
    atEnd.current = scrollHeight - scrollTop - clientHeight < 24;
  };
  return html`
    <div class="bar">
      <h2 id="lines">${tall ? "Lines" : "Log"}</h2>
      <span class="live ${live && !paused ? "on" : ""}" role="status">${paused ? "paused" : live ? "live" : problem ? "refused" : "connecting…"}</span>
      <span class="grow"></span>
      <label class="filter"><span class="hidden">Filter lines</span>
        <input type="search" placeholder="Filter lines" value=${filter} onInput=${(event) => setFilter(event.target.value)} />
      </label>
      <button type="button" aria-pressed=${paused} onClick=${() => pause(!paused)}>${paused ? "Go on" : "Pause"}</button>
      <button type="button" onClick=${clear}>Clear</button>
    </div>
    ${problem && html`<${Refused} problem=${problem} title="The lines cannot be followed; the page tries again by itself" />`}
    <div class="lines ${tall ? "tall" : ""}" ref=${place} onScroll=${scrolled} tabindex="0" role="log" aria-live="off" aria-labelledby="lines">
      ${shown.length === 0 && html`<p class="empty">${lines.length ? "No line fits this filter." : "Nothing yet: lines show here as guests write them."}</p>`}
      ${shown.map((line) => html`
        <div class="line ${line.level}" key=${line.id}>
          <span class="when">${timeOfDay(line.at)}</span>
          ${!service && html`<span class="from">${line.service}</span>`}
          <span class="level">${line.level}</span>
          <span class="text" title=${line.request_id && `request ${line.request_id}`}>${line.context && html`<span class="context">${line.context}</span> `}${line.text}</span>
        </div>
      `)}
    </div>
  `;
}

export function Logs() {
  const services = useStore((state) => state.services) ?? [];
  const [service, choose] = useState("");
  const names = services.map((one) => one.name).filter((name) => !name.includes("@") && !name.includes("."));
  return html`
    <h1 id="title" tabindex="-1">Logs</h1>
    <p class="lead">What guests write to stdout, stderr and <code>wasi:logging</code>, from now on.</p>
    <p><label class="inline">Of <select value=${service} onChange=${(event) => choose(event.target.value)}>
      <option value="">all services</option>
      ${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select></label></p>
    <section class="card" aria-labelledby="lines"><${Lines} key=${service} service=${service || null} tall=${true} /></section>
  `;
}
