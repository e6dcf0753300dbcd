// Where the services of the graph lie: a layer for each step of a call, from those that nobody calls to those that call nobody.

const SWEEPS = 8;

/** The size of a service, and the room around it. */
export const BOX = { width: 148, height: 46, across: 92, down: 22 };

/**
 * Places `names` and the calls between them, `[{ caller, callee }]`. Returns the places by name, `{ x, y }` of the upper left
 * corner, and the size of the whole.
 */
export function place(names, calls) {
  const forward = withoutCircles(names, calls);
  const layers = layersOf(names, forward);
  order(layers, forward);
  const tallest = Math.max(1, ...layers.map((layer) => layer.length));
  const height = tallest * (BOX.height + BOX.down) - BOX.down;
  const places = new Map();
  layers.forEach((layer, column) => {
    const used = layer.length * (BOX.height + BOX.down) - BOX.down;
    layer.forEach((name, row) => {
      const y = (height - used) / 2 + row * (BOX.height + BOX.down);
      places.set(name, { x: column * (BOX.width + BOX.across), y });
    });
  });
  return { places, width: Math.max(1, layers.length) * (BOX.width + BOX.across) - BOX.across, height };
}

/** The calls without those that close a circle, nor those of a service to itself. */
function withoutCircles(names, calls) {
  const callees = new Map(names.map((name) => [name, []]));
  for (const { caller, callee } of calls) if (caller !== callee) callees.get(caller).push(callee);
  const [UNDER_WAY, DONE] = [1, 2];
  const seen = new Map();
  const kept = [];
  for (const root of names) {
    if (seen.has(root)) continue;
    // By hand, and not by a function that calls itself: a chain may be a thousand long.
    const path = [{ name: root, at: 0 }];
    seen.set(root, UNDER_WAY);
    while (path.length) {
      const top = path.at(-1);
      const callee = callees.get(top.name)[top.at++];
      if (callee === undefined) {
        seen.set(top.name, DONE);
        path.pop();
      } else if (seen.get(callee) !== UNDER_WAY) {
        kept.push([top.name, callee]);
        if (!seen.has(callee)) {
          seen.set(callee, UNDER_WAY);
          path.push({ name: callee, at: 0 });
        }
      }
    }
  }
  return kept;
}

/** Each service one layer after the last of its callers. */
function layersOf(names, calls) {
  const callers = new Map(names.map((name) => [name, 0]));
  for (const [, callee] of calls) callers.set(callee, callers.get(callee) + 1);
  const layer = new Map(names.map((name) => [name, 0]));
  const ready = names.filter((name) => callers.get(name) === 0);
  const callees = Map.groupBy(calls, ([caller]) => caller);
  for (let name; (name = ready.pop()) !== undefined; ) {
    for (const [, callee] of callees.get(name) ?? []) {
      layer.set(callee, Math.max(layer.get(callee), layer.get(name) + 1));
      callers.set(callee, callers.get(callee) - 1);
      if (callers.get(callee) === 0) ready.push(callee);
    }
  }
  const layers = [];
  for (const name of names) (layers[layer.get(name)] ??= []).push(name);
  return layers;
}

/** Sorts each layer by where its neighbours lie, to and fro, so that few lines cross. */
function order(layers, calls) {
  const neighbours = new Map();
  const add = (one, other) => neighbours.set(one, [...(neighbours.get(one) ?? []), other]);
  for (const [caller, callee] of calls) {
    add(caller, callee);
    add(callee, caller);
  }
  const row = new Map();
  const number = (layer) => layer.forEach((name, place) => row.set(name, (place + 0.5) / layer.length));
  layers.forEach(number);
  const middle = (name) => {
    const rows = (neighbours.get(name) ?? []).map((other) => row.get(other));
    return rows.length ? rows.reduce((sum, one) => sum + one, 0) / rows.length : row.get(name);
  };
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (const layer of sweep % 2 ? layers.toReversed() : layers) {
      const middles = new Map(layer.map((name) => [name, middle(name)]));
      layer.sort((one, other) => middles.get(one) - middles.get(other));
      number(layer);
    }
  }
}
