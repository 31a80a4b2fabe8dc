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
  /** What is not in it although it may match; absent when all is. */
  not_recorded?: { groups: string[]; why: string };
}

/** The answer for an id of which nothing is recorded, while groups keep no row of what they handled. */
export interface NotRecorded {
  id: string;
  state: "NOT_RECORDED";
  reason: string;
  groups: string[];
}

export function isNotRecorded(answer: Message | NotRecorded): answer is NotRecorded {
  return answer.state === "NOT_RECORDED";
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

export type Hearer = Schemas["ListenerView"];
export type Group = Schemas["GroupView"];
export type DeadLetter = Schemas["DeadLetterView"];
export type Undelivered = Schemas["UndeliveredView"];
export type Outbox = Omit<Schemas["OutboxStatus"], "state"> & { state: "running" | "failing" | "starting" };
export type TransactionState = "PREPARED" | "COMMITTED" | "ROLLED_BACK" | "ABANDONED";
export type Transaction = Omit<Schemas["TransactionView"], "state"> & { state: TransactionState };

export type RedriveState = "PLANNED" | "RUNNING" | "PAUSED" | "DONE" | "CANCELLED";

export type Redrive = Schemas["RedriveView"];
export type RedriveItem = Schemas["ItemView"];
