import assert from "node:assert/strict";
import { test } from "node:test";
import { answer } from "./greeting.js";

const ask = (path) => answer(new Request(`http://localhost${path}`));

test("it greets by name", async () => {
  const response = await ask("/Ada");
  assert.equal(response.status, 200);
  assert.deepEqual(await response.json(), { text: "Hello, Ada!" });
});

test("a name that is too long is refused", async () => {
  const response = await ask("/" + "a".repeat(51));
  assert.equal(response.status, 400);
});
