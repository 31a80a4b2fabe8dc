// Timers, and waiting for what the host does. Nothing outlives the attempt.

import { host } from "./host.js";

const clock = host["wasi:clocks/monotonic-clock"];
const { poll } = host["wasi:io/poll"];
const NANOS_PER_MS = 1_000_000;

const timers = new Map();
const waiting = new Map();
let last = 0;

/** Gives a resource back to the host. */
export function dispose(resource) {
  (resource?.[Symbol.dispose] ?? resource?.[Symbol.for("dispose")])?.call(resource);
}

/** Resolves once a pollable is ready. */
export function until(pollable) {
  return new Promise((resolve) => waiting.set((last += 1), { pollable, resolve }));
}

function start(callback, delayMs, values, repeats) {
  if (typeof callback !== "function") throw new TypeError("a timer wants a function");
  const every = Math.max(0, Number(delayMs) || 0) * NANOS_PER_MS;
  const id = (last += 1);
  timers.set(id, { id, due: Number(clock.now()) + every, every, callback, values, repeats });
  return id;
}

export const setTimeout = (callback, delayMs, ...values) => start(callback, delayMs, values, false);
export const setInterval = (callback, delayMs, ...values) => start(callback, delayMs, values, true);
export const setImmediate = (callback, ...values) => start(callback, 0, values, false);
export const clearTimeout = (id) => void timers.delete(id);

/** Waits until something happens and tells whoever waits for it; false when nothing can. */
export function wait() {
  if (timers.size === 0 && waiting.size === 0) return false;
  const first = [...timers.values()].reduce((least, timer) => (!least || timer.due < least.due ? timer : least), null);
  const left = first ? Math.ceil(first.due - Number(clock.now())) : Infinity;
  if (left > 0) block(left);
  const now = Number(clock.now());
  const due = [...timers.values()].filter((timer) => timer.due <= now).sort((a, b) => a.due - b.due || a.id - b.id);
  for (const timer of due) {
    // An earlier one may have cleared it.
    if (!timers.has(timer.id)) continue;
    if (timer.repeats) timer.due = now + Math.max(timer.every, NANOS_PER_MS);
    else timers.delete(timer.id);
    timer.callback(...timer.values);
  }
  return true;
}

function block(nanos) {
  const entries = [...waiting];
  const pollables = entries.map(([, { pollable }]) => pollable);
  const alarm = Number.isFinite(nanos) ? clock.subscribeDuration(nanos) : null;
  if (alarm) pollables.push(alarm);
  const ready = poll(pollables);
  if (alarm) dispose(alarm);
  for (const index of ready) {
    const entry = entries[index];
    if (!entry) continue;
    waiting.delete(entry[0]);
    dispose(entry[1].pollable);
    entry[1].resolve();
  }
}

/** Forgets what the attempt that ended still waits for. */
export function clear() {
  if (waiting.size > 0) {
    for (const { pollable } of waiting.values()) dispose(pollable);
    waiting.clear();
  }
  if (timers.size > 0) timers.clear();
}
