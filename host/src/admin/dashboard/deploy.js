// Deploying: a file that is dropped on the page or chosen, the name it gets, how far it is, and what came of it.

import { html, useEffect, useRef, useState } from "./html.js";
import { Refused, Revision } from "./parts.js";
import { bytes, took } from "./format.js";
import { pathOf, upload } from "./api.js";
import { Dialog, useOrder } from "./dialogs.js";
import { get, notice, set, useStore } from "./store.js";

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$/;
const SIZE_MAX = 256 * 2 ** 20;

/** A name that a service may have, as near to the file's as can be. */
const nameFor = (file) =>
  file.name
    .replace(/\.wasm$/i, "")
    .toLowerCase()
    .replaceAll("_", "-")
    .replace(/[^a-z0-9@-]+/g, "-")
    .replace(/^-+|-+$/g, "");

/** Begins to deploy what was dropped or chosen; settings beside a build go with it. */
function take(files) {
  const all = [...files];
  const build = all.find((file) => !file.name.endsWith(".toml"));
  if (!build) return notice("Drop a .wasm file; settings (.toml) may come with it.", "bad");
  if (all.length > 2) notice(`Only ${build.name} is taken: one service at a time.`, "bad");
  const settings = all.find((file) => file.name.endsWith(".toml")) ?? null;
  const [part, service] = get().route;
  const name = part === "services" && service ? service : nameFor(build);
  set({ deploying: { build, settings, name } });
}

/** A button that lets a file be chosen. */
export function FileButton({ primary, label = "Deploy a file" }) {
  const input = useRef();
  const chosen = (event) => {
    if (event.target.files.length) take(event.target.files);
    event.target.value = "";
  };
  return html`
    <button type="button" class=${primary ? "primary" : ""} onClick=${() => input.current.click()}>${label}…</button>
    <input ref=${input} type="file" class="file" accept=".wasm,.toml,application/wasm" multiple hidden tabindex="-1" aria-label="A build" onChange=${chosen} />
  `;
}

/** The whole page takes what is dropped on it. */
export function DropZone() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    const on = {
      dragenter: (event) => holdsFiles(event) && (event.preventDefault(), depth++, setOver(true)),
      dragover: (event) => holdsFiles(event) && event.preventDefault(),
      dragleave: (event) => holdsFiles(event) && --depth <= 0 && ((depth = 0), setOver(false)),
      drop: (event) => {
        if (!holdsFiles(event)) return;
        event.preventDefault();
        depth = 0;
        setOver(false);
        if (!get().deploying && event.dataTransfer.files.length) take(event.dataTransfer.files);
      },
    };
    Object.entries(on).forEach(([name, listener]) => addEventListener(name, listener));
    return () => Object.entries(on).forEach(([name, listener]) => removeEventListener(name, listener));
  }, []);
  return over && html`<div class="drop" aria-hidden="true"><p>Drop it to deploy it</p></div>`;
}

/** The settings as the header of an upload has them. */
async function headersOf(settings) {
  if (!settings) return { "content-type": "application/wasm" };
  const text = new Uint8Array(await settings.arrayBuffer());
  const base64 = btoa(Array.from(text, (byte) => String.fromCharCode(byte)).join(""));
  return { "content-type": "application/wasm", "x-hotbay-settings": base64 };
}

const close = () => set({ deploying: null });

export function Deploy() {
  const deploying = useStore((state) => state.deploying);
  return deploying && html`<${Asked} key=${deploying.build} ...${deploying} />`;
}

function Asked({ build, settings, name: proposed }) {
  const [name, setName] = useState(proposed);
  const [sent, progress] = useState(0);
  const [outcome, ended] = useState(null);
  const [{ busy, problem }, give] = useOrder(ended);
  const services = useStore((state) => state.services) ?? [];
  const valid = NAME.test(name);
  const small = build.size <= SIZE_MAX;
  const there = services.find((one) => one.name === name);
  const submit = (event) => {
    event.preventDefault();
    if (!valid || !small || busy) return;
    progress(0);
    give(async () => upload(pathOf(name), build, await headersOf(settings), progress));
  };
  if (outcome) return html`<${Done} outcome=${outcome} />`;
  const effect = !valid
    ? "A name is 1 to 63 of a–z, 0–9 and -, not - at either end; NAME@LABEL deploys a labelled revision."
    : there?.serving
      ? html`It takes the place of <${Revision} of=${there.serving.revision} />, without a request that fails.`
      : `It becomes the ${name.includes("@") ? "labelled revision" : "new service"} ${name}.`;
  return html`
    <${Dialog} title="Deploy" onClose=${close} busy=${busy}>
      <form onSubmit=${submit}>
        <div class="body">
          <p class="chosen"><strong>${build.name}</strong> <span class="muted">${bytes(build.size)}</span>
            ${settings && html` with its settings, <strong>${settings.name}</strong>`}</p>
          ${!small && html`<p class="error">The bay takes builds of at most 256 MiB; strip it of its debug information.</p>`}
          <label>Service
            <input name="service" value=${name} autofocus spellcheck=${false} autocomplete="off" disabled=${busy}
              aria-invalid=${!valid} aria-describedby="effect" onInput=${(event) => setName(event.target.value.trim())} />
          </label>
          <p id="effect" class=${valid ? "muted" : "error"}>${effect}</p>
          ${busy && html`<${Progress} name=${name} sent=${sent} />`}
          ${problem && html`<${Refused} problem=${problem} title=${problem.status === 422 ? "Rejected: what served goes on serving" : "It was not deployed"} />`}
        </div>
        <footer>
          <button type="button" disabled=${busy} onClick=${close}>Cancel</button>
          <button type="submit" class="primary" disabled=${busy || !valid || !small}>${busy ? "Deploying…" : problem ? "Try again" : "Deploy"}</button>
        </footer>
      </form>
    <//>
  `;
}

function Progress({ name, sent }) {
  const swap = useStore((state) => state.swaps.find((swap) => swap.name === name && swap.outcome === null));
  const said = sent < 1 ? `Sending, ${Math.round(sent * 100)} %` : swap ? `The host is at it: ${swap.steps.at(-1)?.name ?? "detected"}` : "The host is at it";
  return html`<div class="progress"><progress value=${sent < 1 ? sent : undefined} max="1" aria-label="Progress"></progress><p role="status">${said}</p></div>`;
}

function Done({ outcome }) {
  const { service, revision, steps, took_us, url } = outcome;
  const unchanged = outcome.outcome === "unchanged";
  return html`
    <${Dialog} title=${unchanged ? "It served already" : "It serves"} onClose=${close}>
      <div class="body" role="status">
        <p><strong>${service}</strong> ${unchanged ? "has this build and these settings already:" : "runs new requests on"} <${Revision} of=${revision} />${took_us && html`, after ${took(took_us)}`}.</p>
        ${steps.length > 0 && html`<ul class="inline">${steps.map(({ step, took_us }) => html`<li key=${step}>${step} <span class="muted">${took(took_us)}</span></li>`)}</ul>`}
        ${url && html`<p><a href=${url} target="_blank" rel="noreferrer">${url}</a></p>`}
      </div>
      <footer>
        <a class="button" href="#/services/${encodeURIComponent(service.split("@")[0])}" onClick=${close}>Look at it</a>
        <button type="button" class="primary" autofocus onClick=${close}>Close</button>
      </footer>
    <//>
  `;
}
