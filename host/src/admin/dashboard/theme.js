// Light or dark: as the system has it, unless a person chose here.

import { html, useEffect, useState } from "./html.js";

const KEY = "hotbay-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

const chosen = () => localStorage.getItem(KEY);
export const isDark = () => (chosen() ? chosen() === "dark" : dark.matches);

export function start() {
  const apply = () => {
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    for (const listener of listeners) listener();
  };
  dark.addEventListener("change", apply);
  addEventListener("storage", apply);
  addEventListener("theme", apply);
  apply();
}

/** Told of each change; returns what ends that. */
export function onTheme(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The colour that a variable of the style stands for now: a canvas does not know variables. */
export function colour(variable) {
  const probe = document.createElement("span");
  probe.style.color = `var(${variable})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

export function ThemeButton() {
  const [is, set] = useState(isDark());
  useEffect(() => onTheme(() => set(isDark())), []);
  const turn = () => {
    // Back to what the system has is no choice of one's own.
    if (!is === dark.matches) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, is ? "light" : "dark");
    dispatchEvent(new Event("theme"));
  };
  return html`<button type="button" class="quiet icon" onClick=${turn} aria-pressed=${is} aria-label="Dark colours" title="Dark colours">
    <svg viewBox="0 0 20 20" aria-hidden="true"><path d=${is ? SUN : MOON} /></svg>
  </button>`;
}

const MOON = "M16.5 12.2A7 7 0 0 1 7.8 3.5a7 7 0 1 0 8.7 8.7Z";
const SUN = "M10 6.2a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.6ZM10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6 16 16M16 4l-1.4 1.4M5.4 14.6 4 16";
