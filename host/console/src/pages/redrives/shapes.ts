/** Redrives, as the host describes them. */
import type { components } from "../../api/schema";

export type Redrive = components["schemas"]["RedriveView"];
export type Item = components["schemas"]["ItemView"];
export type RedriveState = "PLANNED" | "RUNNING" | "PAUSED" | "DONE" | "CANCELLED";
export type ItemState = "WAITING" | "RUNNING" | "HANDLED" | "HANDLE_FAIL" | "SKIPPED";

/** Items that have no result yet. */
export function open(redrive: Redrive): number {
  return Math.max(0, redrive.matched - redrive.done);
}

/** Whether it can still change by itself or be told to. */
export function isOver(redrive: Redrive): boolean {
  return redrive.state === "DONE" || redrive.state === "CANCELLED";
}
