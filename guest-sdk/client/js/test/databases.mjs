// The database libraries of `publishIn`, each with a transaction that commits
// or rolls back.
import pg from "pg";

const BUSY_MS = 10_000;

async function postgres(hosts) {
  const client = new pg.Client(hosts.postgres);
  await client.connect();
  return {
    async transaction(end, publisher, messages) {
      await client.query("BEGIN");
      try {
        for (const message of messages) await publisher.publishIn(client, message);
      } catch (error) {
        await client.query("ROLLBACK");
        throw error;
      }
      await client.query(end);
    },
    close: () => client.end(),
  };
}

function sqlite(open) {
  return async (hosts) => {
    const db = await open(hosts.sqlite);
    db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
    return {
      async transaction(end, publisher, messages) {
        db.exec("BEGIN IMMEDIATE");
        try {
          for (const message of messages) publisher.publishIn(db, message);
        } catch (error) {
          db.exec("ROLLBACK");
          throw error;
        }
        db.exec(end);
      },
      close: () => db.close(),
    };
  };
}

export const databases = { pg: postgres };

// node:sqlite came with Node 22.5; better-sqlite3 is built or fetched when it
// is installed. One of them is always there.
const { DatabaseSync } = await import("node:sqlite").catch(() => ({}));
if (DatabaseSync) databases["node:sqlite"] = sqlite((path) => new DatabaseSync(path));
const better = await import("better-sqlite3").then((module) => module.default).catch(() => undefined);
if (better) databases["better-sqlite3"] = sqlite((path) => new better(path));
if (!DatabaseSync && !better) throw new Error("neither node:sqlite nor better-sqlite3 is there: install better-sqlite3 or Node 22.5");
