// The revisions of a service side by side, and how its requests are shared out among them.

import { html, useState } from "./html.js";
import { call, pathOf } from "./api.js";
import { Confirm, useOrder } from "./dialogs.js";
import { Refused, Revision, State } from "./parts.js";
import { count, took } from "./format.js";
import { notice } from "./store.js";

const labelOf = ({ name }) => name.split("@")[1];

export function Weights({ main, labelled }) {
  const [edited, edit] = useState({});
  const [asked, ask] = useState(null);
  const [{ busy, problem }, give] = useOrder(() => {
    edit({});
    notice(`The requests of ${main.name} are shared out anew.`);
  });
  const share = (one) => edited[labelOf(one)] ?? String(one.share ?? 0);
  const percents = labelled.map((one) => Number(share(one)));
  const valid = labelled.every((one) => /^\d{1,3}$/.test(share(one))) && percents.reduce((sum, percent) => sum + percent, 0) <= 100;
  const rest = 100 - percents.reduce((sum, percent) => sum + percent, 0);
  const changed = labelled.filter((one) => share(one) !== String(one.share ?? 0));
  const submit = (event) => {
    event.preventDefault();
    // The others keep what they have by now.
    const shares = Object.fromEntries(changed.map((one) => [labelOf(one), Number(share(one))]));
    if (valid) give(() => call("PUT", pathOf(main.name, "/traffic"), { json: { shares } }));
  };
  const row = (one, cell) => html`
    <tr key=${one.name}>
      <th scope="row">${labelOf(one) ? html`<span class="at">@</span>${labelOf(one)}` : "main"}</th>
      <td><${State} of=${one.state} /></td>
      <td>${one.serving ? html`<${Revision} of=${one.serving.revision} />` : "–"}</td>
      <td class="number">${cell}</td>
      <td class="number">${count(one.serving?.requests ?? 0)}</td>
      <td class="number">${count(one.serving?.faults ?? 0)}</td>
      <td class="number">${took(one.serving?.p50_us)}</td>
      <td class="number">${took(one.serving?.p99_us)}</td>
      <td class="acts">
        ${labelOf(one) && html`
          <button type="button" class="small" disabled=${!one.serving} onClick=${() => ask({ what: "promote", one })}>Promote<span class="hidden"> ${one.name}</span></button>
          <button type="button" class="small" onClick=${() => ask({ what: "remove", one })}>Remove<span class="hidden"> ${one.name}</span></button>
        `}
      </td>
    </tr>
  `;
  return html`
    <section class="card" aria-labelledby="weights">
      <div class="bar"><h2 id="weights">Revisions side by side</h2><span class="muted">since each was published</span></div>
      <form onSubmit=${submit}>
        <div class="scroll" tabindex="0" role="group" aria-labelledby="weights">
          <table>
            <thead><tr><th scope="col">Label</th><th scope="col">State</th><th scope="col">Revision</th><th scope="col" class="number">Share</th>
              <th scope="col" class="number">Requests</th><th scope="col" class="number">Faults</th><th scope="col" class="number">p50</th><th scope="col" class="number">p99</th>
              <th scope="col"><span class="hidden">What can be done</span></th></tr></thead>
            <tbody>
              ${row(main, html`<output>${valid ? rest : "–"} %</output>`)}
              ${labelled.map((one) => row(one, html`
                <label class="percent"><span class="hidden">Share of ${one.name} in percent</span>
                  <input inputmode="numeric" size="3" value=${share(one)} disabled=${busy} aria-invalid=${!valid}
                    onInput=${(event) => edit({ ...edited, [labelOf(one)]: event.target.value.trim() })} /> %
                </label>`))}
            </tbody>
          </table>
        </div>
        ${(changed.length > 0 || busy) && html`<div class="bar end">
          ${!valid && html`<p class="error" role="alert">Shares are whole percents, of 100 in all.</p>`}
          <button type="button" disabled=${busy} onClick=${() => edit({})}>Leave as it is</button>
          <button type="submit" class="primary" disabled=${busy || !valid}>${busy ? "Working…" : "Share out"}</button>
        </div>`}
        ${problem && html`<${Refused} problem=${problem} title="The shares stay as they are" />`}
      </form>
      ${asked?.what === "promote" && html`
        <${Confirm} title="Promote ${asked.one.name}?" action="Promote" onClose=${() => ask(null)}
          work=${() => call("POST", pathOf(main.name, "/promote"), { json: { label: labelOf(asked.one) } })}
          said=${(outcome) => `${outcome.service} runs on ${outcome.revision}.`}>
          <p>It becomes the main revision of ${main.name} and gets all requests; its own share ends.</p>
        <//>`}
      ${asked?.what === "remove" && html`
        <${Confirm} title="Remove ${asked.one.name}?" action="Remove" danger=${true} onClose=${() => ask(null)}
          work=${() => call("DELETE", pathOf(asked.one.name))} said=${() => `${asked.one.name} is removed.`}>
          <p>Its file is taken out of the bay, and its share goes to the main revision. What runs on it finishes.</p>
        <//>`}
    </section>
  `;
}
