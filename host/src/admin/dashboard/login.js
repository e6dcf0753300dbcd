// Asks for the token.

import { html, useState } from "./html.js";
import { enter } from "./link.js";
import { useStore } from "./store.js";

export function Login() {
  const refused = useStore((state) => state.refused);
  const [token, setToken] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (token.trim()) enter(token.trim());
  };
  return html`
    <main id="main" class="login">
      <h1 id="title" class="brand" tabindex="-1"><img src="/dashboard/icon.svg" alt="" width="30" height="30" />Hotbay</h1>
      <p>This page needs the admin token of the host. <code>hotbay dashboard</code> opens it with the token; or paste what stands in
        the file <code>admin.token</code> of the state folder.</p>
      <form onSubmit=${submit}>
        <label>Token
          <input type="password" name="token" value=${token} autofocus autocomplete="off" spellcheck=${false} aria-invalid=${Boolean(refused)}
            aria-describedby="refused" onInput=${(event) => setToken(event.target.value)} />
        </label>
        <p id="refused" class="error" role="alert">${refused}</p>
        <button type="submit" class="primary">Open</button>
      </form>
      <p class="muted">It stays in this tab, is sent to this host alone, and is forgotten when the tab is closed.</p>
    </main>
  `;
}
