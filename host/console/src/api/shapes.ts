/**
 * The shapes of the API by the names the console uses. What the host describes
 * is generated (`schema.d.ts`).
 */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Message = Schemas["MessageView"];
export type Delivery = Schemas["DeliveryView"];
export type Attempt = Schemas["AttemptView"];
export type Plugin = Schemas["PluginView"];
export type Version = Schemas["VersionView"];
export type Uploaded = Schemas["UploadView"];
export type Partition = Schemas["PartitionView"];
export type Open = Schemas["OpenView"];
export type Counters = Schemas["Counters"];
export type Readiness = Schemas["Readiness"];
export type Sought = Schemas["SeekView"];
export type State = "SEND_FAIL" | "COMMITTED" | "PUSH_FAIL" | "HANDLE_FAIL" | "HANDLED";

export interface List<T> {
  items: T[];
  next: string | null;
  truncated: boolean;
}

export type Role = "viewer" | "publisher" | "operator" | "admin";

export interface Me {
  name: string;
  role: Role;
  topics: string[] | null;
  groups: string[] | null;
  auth: boolean;
  csrf: string | null;
}

export interface Policy {
  retry?: { max_attempts: number; initial: string; multiplier: number; max: string; jitter: number; budget: string | null } | null;
  dead_letter?: boolean | string | null;
  timeout?: string | null;
  cpu?: string | null;
  memory?: string | number | null;
  log?: string | number | null;
  rate_limit?: number | null;
  circuit?: unknown;
  dedupe?: string | null;
  grant?: { publish?: string[] | null; state?: boolean | null; cache?: boolean | null; http?: string[] | null } | null;
  batch?: unknown;
  max_gap?: number | null;
  start?: string | null;
  version?: string | null;
}

export type Binding = Schemas["BindingView"] & Policy;

export interface Hearer {
  node: string;
  live: boolean;
  registered_at: string;
  seen_at: string;
  forgotten: boolean;
  topic: string;
  lag: number | null;
}

export type Group = Omit<Schemas["GroupView"], "bindings"> & { bindings: Binding[]; broadcast?: Hearer[] | null };

export interface ParkedLane {
  topic: string;
  partition: number;
  key?: string | null;
  key_base64?: string | null;
  head: string;
  waiting: number;
  next_attempt_at: string | null;
  held: boolean;
}

export interface Minute {
  time: string;
  published: number;
  send_fail: number;
  handled: number;
  failed: number;
}

export interface GroupOverview {
  group: string;
  paused: boolean;
  why: string | null;
  lag: number | null;
  open: Open;
  handled: number;
  failed: number;
  per_minute: { handled: number; failed: number };
  p50_ms: number | null;
  p99_ms: number | null;
}

export interface Attention {
  kind: string;
  subject: string;
  detail: string;
  since: string | null;
  path: string;
}

export interface Node {
  name: string;
  live: boolean;
  joined_at: string;
  lease_until: string;
}

export interface Overview {
  time: string;
  minutes: Minute[];
  open: Open;
  lag: number | null;
  groups: GroupOverview[];
  nodes: Node[];
  attention: Attention[];
}

export interface Failure {
  group: string;
  fingerprint: string;
  verdict: string | null;
  reason: string | null;
  count: number;
  first_at: string;
  last_at: string;
  topics: string[];
  versions: string[];
  example: string;
  open: number;
}

export interface LostRange {
  group: string;
  topic: string;
  partition: number;
  from_offset?: number | null;
  to_offset?: number | null;
  reason?: string | null;
  at?: string | null;
}

export interface AuditEntry {
  id: number | string;
  at: string;
  by: string;
  action: string;
  subject: string;
  detail: string;
  hash: string;
  previous: string | null;
}

export interface AuditVerdict {
  ok: boolean;
  checked: number;
  broken_at: number | string | null;
}

export interface Transaction {
  id: string;
  state: "PREPARED" | "COMMITTED" | "ROLLED_BACK" | "ABANDONED";
  messages: { id: string; topic: string; type: string; key: string | null }[];
  check_url: string | null;
  timeout: string;
  created_at: string;
  deadline: string;
  checks: number;
  next_check_at: string | null;
  last_answer: string | null;
  reason: string | null;
  ended_at: string | null;
}

export interface Outbox {
  name: string;
  url: string;
  table: string;
  state: "running" | "failing" | "starting";
  why: string | null;
  pending: number | null;
  oldest_at: string | null;
  relayed: number;
  refused: number;
  shards: number | string | null;
  node: string | null;
}

export type RedriveState = "PLANNED" | "RUNNING" | "PAUSED" | "DONE" | "CANCELLED";

export type Redrive = Schemas["RedriveView"];
export type RedriveItem = Schemas["ItemView"];
