import { readFileSync, writeFileSync } from "node:fs";
import { componentize } from "@bytecodealliance/componentize-js";

const [source, witPath, output] = process.argv.slice(1);
const { component } = await componentize(readFileSync(source, "utf8"), { sourceName: source, witPath, worldName: "service" });
writeFileSync(output, component);
