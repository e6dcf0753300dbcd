// The settings of a service as text, as they lie in the bay.

import { html, useEffect, useState } from "./html.js";
import { call, pathOf, tagged } from "./api.js";
import { Dialog, useOrder } from "./dialogs.js";
import { Refused } from "./parts.js";
import { notice } from "./store.js";

const EXAMPLE = '# Nothing is set: the defaults hold.\n# [limits]\n# concurrency = 64\n# [grants]\n# http = ["https://api.example.com"]\n';

export function Settings({ name, onClose }) {
  const [text, setText] = useState(null);
  const [was, setWas] = useState({ text: "", tag: null });
  const [{ busy, problem }, give] = useOrder(() => {
    notice(`The settings of ${name} hold.`);
    onClose();
  });
  useEffect(() => {
    tagged(pathOf(name, "/settings")).then(
      (was) => (setWas(was), setText(was.text)),
      (problem) => give(() => Promise.reject(problem)),
    );
  }, []);
  const submit = (event) => {
    event.preventDefault();
    const headers = { "content-type": "application/toml", ...(was.tag && { "if-match": was.tag }) };
    give(() => call("PUT", pathOf(name, "/settings"), { body: text, headers }));
  };
  return html`
    <${Dialog} title="Settings of ${name}" onClose=${onClose} busy=${busy} wide=${true}>
      <form onSubmit=${submit}>
        <div class="body">
          <label for="toml"><code>${name}.toml</code> <span class="muted">as it lies in the bay. Saving it makes a new revision; one that will not do changes nothing.</span></label>
          <textarea id="toml" rows="16" spellcheck=${false} autocapitalize="off" autocomplete="off" placeholder=${EXAMPLE}
            value=${text ?? ""} disabled=${text === null || busy} onInput=${(event) => setText(event.target.value)}></textarea>
          ${problem && html`<${Refused} problem=${problem} title=${problem.status === 422 ? "Rejected: the settings that held go on" : "They were not changed"} />`}
        </div>
        <footer>
          <button type="button" disabled=${busy} onClick=${onClose}>Cancel</button>
          <button type="submit" class="primary" disabled=${busy || text === null || text === was.text}>${busy ? "Working…" : "Save"}</button>
        </footer>
      </form>
    <//>
  `;
}
