/** The console's page for a path of the API. */

const PAGES: Record<string, string> = {
  groups: "/groups",
  plugins: "/plugins",
  deliveries: "/deliveries",
  messages: "/messages",
  transactions: "/half-messages",
  outboxes: "/outboxes",
  redrives: "/redrives",
  nodes: "/nodes",
  "lost-ranges": "/nodes",
  "dead-letters": "/dead-letters",
  delayed: "/delayed",
  undelivered: "/undelivered",
};

export function pageOf(apiPath: string): string {
  const [address = "", query] = apiPath.replace(/^\/v1/, "").split("?");
  const [, kind = "", name] = address.split("/");
  const page = PAGES[kind];
  if (!page) return "/";
  // These have no page for one of them.
  const alone = kind === "outboxes" || kind === "nodes" || name === undefined;
  if (kind === "transactions" && name) return `${page}?id=${name}`;
  return `${page}${alone ? "" : `/${name}`}${query ? `?${query}` : ""}`;
}
