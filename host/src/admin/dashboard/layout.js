// Where the services of the graph lie: a layer for each step of a call, from those that nobody calls to those that call nobody.
// The usual way (Sugiyama): circles are broken, layers given, long calls led through the layers between, layers sorted.

const SWEEPS = 12;

/** The size of a service, and the room around it. */
export const BOX = { width: 150, height: 46, across: 140, down: 24 };
/** The height of a place through which a long call is led. */
const THROUGH = 20;

/**
 * Places `names` and the calls between them, `[{ caller, callee }]`. Returns the places by name, `{ x, y }` of the upper left
 * corner; for each call, in their order, the points that its line goes through and whether it goes `back`; and the size.
 */
export function place(names, calls) {
  const { kept, turned } = withoutCircles(names, calls);
  const layer = layersOf(names, kept);
  const layers = [];
  for (const name of names) (layers[layer.get(name)] ??= []).push({ name, height: BOX.height });
  const nodes = new Map(layers.flat().map((node) => [node.name, node]));
  const chains = kept.map(([from, to]) => chain(nodes.get(from), nodes.get(to), layer.get(from), layer.get(to), layers));
  order(layers, chains);
  const heightOf = (nodes) => nodes.reduce((sum, node) => sum + node.height + BOX.down, -BOX.down);
  const height = Math.max(BOX.height, ...layers.map(heightOf));
  layers.forEach((nodes, column) => {
    let y = (height - heightOf(nodes)) / 2;
    for (const node of nodes) {
      Object.assign(node, { x: column * (BOX.width + BOX.across), y });
      y += node.height + BOX.down;
    }
  });
  const lines = new Map(chains.map((nodes, at) => [kept[at].join(" "), nodes]));
  const both = (one, other) => lines.has(`${one} ${other}`) && turned.has(`${other} ${one}`);
  return {
    places: nodes,
    lines: calls.map(({ caller, callee }) => {
      const back = turned.has(`${caller} ${callee}`);
      const nodes = lines.get(back ? `${callee} ${caller}` : `${caller} ${callee}`);
      // Two services that call each other have two lines beside each other.
      const aside = back ? both(callee, caller) && 8 : both(caller, callee) && -8;
      return { back, points: nodes ? pointsOf(back ? nodes.toReversed() : nodes, back, aside || 0) : null };
    }),
    width: Math.max(1, layers.length) * (BOX.width + BOX.across) - BOX.across,
    height,
  };
}

/** From the right side of the caller to the left side of the callee; of a call that goes back, the other way round. */
function pointsOf(nodes, back, aside) {
  const middle = (node) => node.y + node.height / 2;
  return nodes.flatMap((node, at) => {
    const [left, right] = [node.x, node.x + BOX.width];
    if (at === 0) return [[back ? left : right, middle(node) + aside]];
    if (at === nodes.length - 1) return [[back ? right : left, middle(node) + aside]];
    return back ? [[right, middle(node)], [left, middle(node)]] : [[left, middle(node)], [right, middle(node)]];
  });
}

/** The calls as pairs of which none closes a circle: those that do are turned round. Those of a service to itself are left out. */
function withoutCircles(names, calls) {
  const callees = new Map(names.map((name) => [name, []]));
  for (const { caller, callee } of calls) if (caller !== callee) callees.get(caller).push(callee);
  const [UNDER_WAY, DONE] = [1, 2];
  const seen = new Map();
  const kept = new Map();
  const turned = new Set();
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
      } else if (seen.get(callee) === UNDER_WAY) {
        turned.add(`${top.name} ${callee}`);
        kept.set(`${callee} ${top.name}`, [callee, top.name]);
      } else {
        kept.set(`${top.name} ${callee}`, [top.name, callee]);
        if (!seen.has(callee)) {
          seen.set(callee, UNDER_WAY);
          path.push({ name: callee, at: 0 });
        }
      }
    }
  }
  return { kept: [...kept.values()], turned };
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
  return layer;
}

/** The places that a call is led through: its ends, and one in each layer between. */
function chain(from, to, first, last, layers) {
  const between = Array.from({ length: last - first - 1 }, () => ({ height: THROUGH }));
  between.forEach((node, at) => layers[first + 1 + at].push(node));
  return [from, ...between, to];
}

/** Sorts each layer by where its neighbours lie, to and fro, so that few lines cross. */
function order(layers, chains) {
  const neighbours = new Map(layers.flat().map((node) => [node, []]));
  for (const nodes of chains) {
    for (let at = 1; at < nodes.length; at++) {
      neighbours.get(nodes[at - 1]).push(nodes[at]);
      neighbours.get(nodes[at]).push(nodes[at - 1]);
    }
  }
  const number = (layer) => layer.forEach((node, at) => (node.row = (at + 0.5) / layer.length));
  layers.forEach(number);
  const middle = (node) => {
    const near = neighbours.get(node);
    return near.length ? near.reduce((sum, other) => sum + other.row, 0) / near.length : node.row;
  };
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (const layer of sweep % 2 ? layers.toReversed() : layers) {
      const middles = new Map(layer.map((node) => [node, middle(node)]));
      layer.sort((one, other) => middles.get(one) - middles.get(other));
      number(layer);
    }
  }
}
