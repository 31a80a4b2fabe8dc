// Doors before a host that misbehave as networks do.
import { createServer, request } from "node:http";

/** A door that decides, for each answer of the host, whether it is passed on. */
async function door(target, passes) {
  let count = 0;
  const sockets = new Set();
  const server = createServer((asked, answer) => {
    const number = (count += 1);
    const onward = request(new URL(asked.url, target), { method: asked.method, headers: asked.headers, agent: false }, (host) => {
      const verdict = passes(number);
      if (verdict === "lose") asked.socket.destroy();
      if (verdict !== "pass") return host.resume();
      answer.writeHead(host.statusCode, host.headers);
      host.pipe(answer);
    });
    onward.on("error", () => asked.socket.destroy());
    asked.pipe(onward);
  });
  server.on("connection", (socket) => sockets.add(socket));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    requests: () => count,
    close: () => {
      sockets.forEach((socket) => socket.destroy());
      server.close();
    },
  };
}

/** Loses the first answer: the connection ends before it. */
export const lossy = (target) => door(target, (number) => (number === 1 ? "lose" : "pass"));

/** Passes requests on and no answer back. */
export const silent = (target) => door(target, () => "hold");
