// Greets people by name. Knows nothing of hosts and components, so its tests run in Node.
//
//   $ curl http://127.0.0.1:8080/{{name}}/Ada
//   {"text":"Hello, Ada!"}

const NAME_MAX = 50;

/** The Response to a Request. */
export async function answer(request) {
  const name = decodeURIComponent(new URL(request.url).pathname.slice(1));
  if (request.method !== "GET" && request.method !== "HEAD") {
    return problem(405, "Method Not Allowed", "there is only GET");
  }
  if (!name) {
    return new Response("Ask for a greeting: /{{name}}/Ada\n");
  }
  if (name.length > NAME_MAX) {
    return problem(400, "Bad Request", `a name has at most ${NAME_MAX} characters`);
  }
  return json(200, "application/json", { text: `Hello, ${name}!` });
}

/** What cannot be answered, as a problem document (RFC 9457). */
function problem(status, title, detail) {
  return json(status, "application/problem+json", { title, status, detail });
}

function json(status, kind, content) {
  return new Response(JSON.stringify(content), { status, headers: { "content-type": kind } });
}
