/** Every page and its address. Pages are loaded when they are first opened. */
import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";
import { Fault, Missing } from "./Fault";
import { Shell } from "./Shell";
import { only, parseSearch, writeSearch } from "./search";

const root = createRootRoute({ component: Shell, notFoundComponent: Missing, errorComponent: Fault });
const getParentRoute = () => root;
const keep = (...names: string[]) => ({ validateSearch: (search: Record<string, unknown>) => only(search, names) });

const MESSAGE = ["topic", "type", "key", "key_base64", "source", "state", "from", "to"] as const;
const DELIVERY = [
  "group",
  "topic",
  "state",
  "type",
  "key",
  "key_base64",
  "fingerprint",
  "message_id",
  "from",
  "to",
] as const;

const routes = [
  createRoute({
    getParentRoute,
    path: "/",
    component: lazyRouteComponent(() => import("../pages/overview/OverviewPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/sent",
    ...keep(...MESSAGE),
    component: lazyRouteComponent(() => import("../pages/sent/SentPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/deliveries",
    ...keep(...DELIVERY, "view"),
    component: lazyRouteComponent(() => import("../pages/deliveries/DeliveriesPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/messages/$id",
    ...keep("body"),
    component: lazyRouteComponent(() => import("../pages/message/MessagePage")),
  }),
  createRoute({
    getParentRoute,
    path: "/find",
    ...keep("q"),
    component: lazyRouteComponent(() => import("../pages/find/FindPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/groups",
    component: lazyRouteComponent(() => import("../pages/groups/GroupsPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/groups/$group",
    component: lazyRouteComponent(() => import("../pages/groups/GroupPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/plugins",
    component: lazyRouteComponent(() => import("../pages/plugins/PluginsPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/plugins/$name",
    component: lazyRouteComponent(() => import("../pages/plugins/PluginPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/delayed",
    ...keep("topic", "type", "key", "key_base64", "from", "to"),
    component: lazyRouteComponent(() => import("../pages/delayed/DelayedPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/half-messages",
    ...keep("state", "id"),
    component: lazyRouteComponent(() => import("../pages/halves/HalvesPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/outboxes",
    component: lazyRouteComponent(() => import("../pages/outboxes/OutboxesPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/dead-letters",
    ...keep("group", "topic", "handled", "from", "to"),
    component: lazyRouteComponent(() => import("../pages/dead/DeadPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/undelivered",
    ...keep("topic", "group", "outbox", "message_id"),
    component: lazyRouteComponent(() => import("../pages/undelivered/UndeliveredPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/redrives",
    component: lazyRouteComponent(() => import("../pages/redrives/RedrivesPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/redrives/$id",
    component: lazyRouteComponent(() => import("../pages/redrives/RedrivePage")),
  }),
  createRoute({
    getParentRoute,
    path: "/nodes",
    component: lazyRouteComponent(() => import("../pages/nodes/NodesPage")),
  }),
  createRoute({
    getParentRoute,
    path: "/audit",
    ...keep("by", "action", "subject", "from", "to"),
    component: lazyRouteComponent(() => import("../pages/audit/AuditPage")),
  }),
] as const;

export const router = createRouter({
  routeTree: root.addChildren(routes),
  parseSearch,
  stringifySearch: writeSearch,
  defaultPreload: "intent",
  defaultErrorComponent: Fault,
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
