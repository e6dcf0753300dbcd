// Where the page begins.

import { html, render } from "./html.js";
import { App } from "./app.js";
import { begin } from "./link.js";
import { set } from "./store.js";
import * as theme from "./theme.js";

/** The parts of the fragment, `#/services/NAME`. */
function route() {
  const part = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  set({ route: location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(part) });
}

theme.start();
begin();
route();
addEventListener("hashchange", route);
render(html`<${App} />`, document.getElementById("app"));
