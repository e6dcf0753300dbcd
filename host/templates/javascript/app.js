// What the host calls: a request is an event, as in a service worker.

import { answer } from "./greeting.js";

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
