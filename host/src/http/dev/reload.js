// Loads the page again once its service has been swapped, of which it hears from the host that the page came from.
(() => {
  const { watch, seen, denied } = document.currentScript.dataset;
  if (denied) console.warn(`hotbay: ${denied}`);
  if (!watch || !window.EventSource) return;
  // A page that comes out of a cache stays as it was: it is loaded once for each swap, and not for ever.
  const place = `hotbay:${location.pathname}${location.search}`;
  let source;
  const told = ({ data }) => {
    const serving = JSON.parse(data);
    if (serving.length === 0 || serving.includes(seen)) return;
    try {
      if (sessionStorage.getItem(place) === data) return;
      sessionStorage.setItem(place, data);
    } catch {
      // Without a memory there is nothing to look up.
    }
    source.close();
    location.reload();
  };
  // Browsers have few connections for each host, so only the page that is looked at holds one. What it misses meanwhile it is told
  // when it comes back: the host begins with what serves now.
  const attend = () => {
    source?.close();
    if (document.hidden) return;
    source = new EventSource(`/.hotbay/reload?${watch}`);
    source.onmessage = told;
  };
  document.addEventListener("visibilitychange", attend);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && attend());
  attend();
})();
