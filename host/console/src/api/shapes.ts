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

export type Binding = Schemas["BindingView"];
export type ParkedLane = Schemas["LaneView"];
export type Overview = Schemas["Overview"];
export type GroupOverview = Schemas["GroupPulse"];
export type Attention = Schemas["Attention"];
export type Node = Schemas["NodeView"];
export type Failure = Schemas["FailureView"];
export type LostRange = Schemas["LostRangeView"];
export type AuditEntry = Schemas["AuditView"];
export type AuditVerdict = Schemas["Verified"];
export type Me = Omit<Schemas["Me"], "role"> & { role: Role };

export interface Hearer {
  node: string;
  live: boolean;
  registered_at: string;
  seen_at: string;
  forgotten: boolean;
  topic: string;
  lag: number | null;
}

export type Group = Schemas["GroupView"] & { broadcast?: Hearer[] | null };

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
