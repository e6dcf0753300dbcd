// Dialogs: what they have in common, and the one that asks before something is done.

import { html, useLayoutEffect, useRef, useState } from "./html.js";
import { Refused } from "./parts.js";
import { soon } from "./link.js";
import { notice } from "./store.js";

let opened = 0;

/** A dialog that is open for as long as it is drawn. Escape closes it, unless it is `busy`. */
export function Dialog({ title, onClose, busy, wide, children }) {
  const place = useRef();
  const id = useRef(`dialog-${++opened}`).current;
  useLayoutEffect(() => {
    const dialog = place.current;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus?.();
    };
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    if (!busy) onClose();
  };
  return html`
    <dialog ref=${place} class=${wide ? "wide" : ""} aria-labelledby=${id} onCancel=${cancel}>
      <header><h2 id=${id}>${title}</h2>
        <button type="button" class="quiet icon" aria-label="Close" disabled=${busy} onClick=${onClose}>
          <svg viewBox="0 0 20 20" aria-hidden="true"><path d="m5 5 10 10M15 5 5 15" /></svg>
        </button>
      </header>
      ${children}
    </dialog>
  `;
}

/** Something that the host is asked to do: whether it is under way, and why it was refused. */
export function useOrder(done) {
  const [order, set] = useState({ busy: false, problem: null });
  const give = async (work) => {
    set({ busy: true, problem: null });
    try {
      const outcome = await work();
      set({ busy: false, problem: null });
      soon();
      done?.(outcome);
    } catch (problem) {
      set({ busy: false, problem });
      soon();
    }
  };
  return [order, give];
}

/** Asks before something is done, and shows why it was refused where it was. */
export function Confirm({ title, action, danger, said, work, onClose, children }) {
  const [{ busy, problem }, give] = useOrder((outcome) => {
    notice(said(outcome));
    onClose();
  });
  const submit = (event) => {
    event.preventDefault();
    give(work);
  };
  return html`
    <${Dialog} title=${title} onClose=${onClose} busy=${busy}>
      <form onSubmit=${submit}>
        <div class="body">${children}${problem && html`<${Refused} problem=${problem} title="It was not done" />`}</div>
        <footer>
          <button type="button" disabled=${busy} autofocus=${danger} onClick=${onClose}>Cancel</button>
          <button type="submit" class=${danger ? "danger" : "primary"} disabled=${busy} autofocus=${!danger}>${busy ? "Working…" : action}</button>
        </footer>
      </form>
    <//>
  `;
}
