// Makes a component of a module: SOURCE WIT OUTPUT CACHE quick|release. Run by Node in the folder of the service, whose packages it uses.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const TOOL = "@bytecodealliance/componentize-js";
const [source, witPath, output, cache, mode] = process.argv.slice(1);

const { componentize, version } = await import(TOOL);
await remember();
const { component } = await componentize({ sourcePath: source, witPath, worldName: "service" });
writeFileSync(output, component);

// Two steps are most of the work. The engine with the bindings of a world does not depend on the service: it is kept. To put traps
// behind WASI that is not used makes a smaller contract and not another service: it is left to releases. Where the tool has changed
// inside, this does nothing.
async function remember() {
  const { splicer } = await import(new URL("../lib/spidermonkey-embedding-splicer.js", import.meta.resolve(TOOL))).catch(() => ({}));
  const splice = splicer?.spliceBindings;
  if (typeof splice !== "function" || Object.isFrozen(splicer)) return;
  if (mode === "quick") splicer.stubWasi = (engine) => engine;
  splicer.spliceBindings = (engine, ...rest) => {
    const key = createHash("sha256").update(JSON.stringify([version, engine.length, rest]));
    for (const file of readdirSync(witPath, { recursive: true }).sort().filter((file) => file.endsWith(".wit"))) {
      key.update(file).update(readFileSync(join(witPath, file)));
    }
    const folder = join(cache, key.digest("hex").slice(0, 32));
    try {
      const kept = JSON.parse(readFileSync(join(folder, "bindings.json"), "utf8"));
      return { ...kept, wasm: readFileSync(join(folder, "engine.wasm")) };
    } catch {
      const made = splice(engine, ...rest);
      const { wasm, ...bindings } = made;
      mkdirSync(folder, { recursive: true });
      // The last one is looked for first, so all is there when it is.
      for (const [name, content] of [["engine.wasm", wasm], ["bindings.json", JSON.stringify(bindings)]]) {
        const draft = join(folder, `.${name}.${process.pid}`);
        writeFileSync(draft, content);
        renameSync(draft, join(folder, name));
      }
      return made;
    }
  };
}
