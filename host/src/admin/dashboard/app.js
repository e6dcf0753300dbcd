// The page as a whole: its head, where one is, and what is said above everything else.

import { html, useEffect, useRef, useState } from "./html.js";
import { again, leave } from "./link.js";
import { forget, useStore } from "./store.js";
import { Deploy, DropZone } from "./deploy.js";
import { Calls } from "./graph.js";
import { Login } from "./login.js";
import { Logs } from "./logs.js";
import { Service } from "./service.js";
import { Services } from "./services.js";
import { Swaps } from "./swaps.js";
import { ThemeButton } from "./theme.js";

const VIEWS = [
  { part: "", label: "Services" },
  { part: "swaps", label: "Swaps" },
  { part: "calls", label: "Calls" },
  { part: "logs", label: "Logs" },
];

function View({ route: [part, name] }) {
  switch (part) {
    case "services":
      return name ? html`<${Service} key=${name} name=${name} />` : html`<${Services} />`;
    case "swaps":
      return html`<${Swaps} />`;
    case "calls":
      return html`<${Calls} />`;
    case "logs":
      return html`<${Logs} />`;
    default:
      return html`<${Services} />`;
  }
}

/** The reason in a sentence, with what to do where the host says it. */
function why({ status, detail, remedy }) {
  const said = status && remedy ? `${detail}: ${remedy}` : detail;
  return said.endsWith(".") ? said : `${said}.`;
}

/** Seconds until the next attempt, counted down. */
function Lost() {
  const at = useStore((state) => state.again);
  const problem = useStore((state) => state.problem);
  const [, draw] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => draw((count) => count + 1), 500);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.max(0, Math.ceil((at - Date.now()) / 1000));
  return html`
    <div class="banner bad">
      <p role="alert">${why(problem)} What is shown may be old.</p>
      <p aria-hidden="true">Trying again ${seconds ? `in ${seconds} s` : "now"}</p>
      <button type="button" class="small" onClick=${again}>Try now</button>
    </div>
  `;
}

const Notices = () => html`
  <div class="notices" role="status" aria-live="polite">
    ${useStore((state) => state.notices).map(({ id, text, kind }) => html`
      <div key=${id} class="notice ${kind}"><p>${text}</p>
        <button type="button" class="quiet icon" aria-label="Close" onClick=${() => forget(id)}><svg viewBox="0 0 20 20" aria-hidden="true"><path d="m5 5 10 10M15 5 5 15" /></svg></button>
      </div>`)}
  </div>
`;

function Head({ part }) {
  const link = useStore((state) => state.link);
  const refused = useStore((state) => state.link === "lost" && state.problem.status > 0);
  const said = { connecting: "connecting", live: "live", lost: refused ? "refused" : "no answer" }[link];
  const here = part === "services" ? "" : (part ?? "");
  return html`
    <header class="top">
      <div class="inner">
        <a class="brand" href="#/"><img src="/dashboard/icon.svg" alt="" width="24" height="24" />Hotbay</a>
        <nav aria-label="Views">${VIEWS.map(({ part, label }) => html`<a key=${part} href="#/${part}" aria-current=${here === part ? "page" : undefined}>${label}</a>`)}</nav>
        <span class="grow"></span>
        <span class="link ${link}" role="status">${said}</span>
        <${ThemeButton} />
        <button type="button" class="quiet" onClick=${leave}>Leave</button>
      </div>
    </header>
  `;
}

export function App() {
  const link = useStore((state) => state.link);
  const route = useStore((state) => state.route);
  const path = route.join("/");
  const first = useRef(true);
  useEffect(() => {
    document.title = `${route[1] ?? VIEWS.find(({ part }) => part === route[0])?.label ?? "Services"} – Hotbay`;
    // Who comes by a link hears where they are; who has just opened the page is at its beginning anyway.
    if (!first.current) {
      scrollTo(0, 0);
      document.getElementById("title")?.focus({ preventScroll: true });
    }
    first.current = false;
  }, [path]);
  if (link === "asking") return html`<${Login} />`;
  const skip = (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <${Head} part=${route[0]} />
    ${link === "lost" && html`<${Lost} />`}
    <main id="main" tabindex="-1"><${View} route=${route} /></main>
    <${Notices} />
    <${Deploy} />
    <${DropZone} />
  `;
}
