// A service as any team has one, without any library of Courier: it takes each
// message over HTTP and writes one line for it into a file.
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";

const [port, ledger] = process.argv.slice(2);

createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const { key, number } = JSON.parse(Buffer.concat(parts));
    appendFileSync(ledger, `${key} ${number} ${request.headers["courier-delivery"]}\n`);
    response.writeHead(204).end();
  });
}).listen(Number(port), "127.0.0.1");
