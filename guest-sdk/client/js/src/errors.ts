import type { Draft } from "./message.js";

/** An RFC 9457 problem document, as the host answers it. */
export interface Problem {
  /** Names the kind of problem, for example `urn:courier:problem:id-is-taken`. */
  type?: string;
  /** The kind of problem in words. */
  title: string;
  /** The status of HTTP. */
  status?: number;
  /** What was wrong here, and what would be right. */
  detail?: string;
  /** The message that it is about. */
  id?: string;
  [member: string]: unknown;
}

/** What goes wrong with a message, by what the sender can do. */
export abstract class CourierError extends Error {
  /** Whether the same message may be taken later, without a change. */
  abstract readonly canRetry: boolean;
}

/** The message, or what was said of it, is wrong: correct it. Nothing was sent. */
export class InvalidError extends CourierError {
  override readonly name = "InvalidError";
  readonly canRetry = false;

  constructor(
    why: string,
    /** The message's id, if it has one. */
    readonly id?: string,
  ) {
    super(`the message is not valid: ${why}`);
  }
}

/**
 * The host refuses it, as it would each time: correct the message, its id, or
 * the token.
 */
export class RefusedError extends CourierError {
  override readonly name = "RefusedError";
  readonly canRetry = false;

  constructor(
    /** The status of HTTP; 409 means that the id is taken by another message. */
    readonly status: number,
    /** What the host answered. */
    readonly problem: Problem,
    /** The message's id, if the answer is about one message. */
    readonly id: string | undefined = problem.id,
  ) {
    super(`the host refuses it (${status}): ${words(problem)}`);
  }
}

/**
 * No host answered for certain within the publisher's time. A message may have
 * been taken, since an answer can be lost: publish `draft` again, which cannot
 * double it.
 */
export class GaveUpError extends CourierError {
  override readonly name = "GaveUpError";
  readonly canRetry = true;

  constructor(
    /** How often it was tried. */
    readonly tries: number,
    /** The last reason. */
    readonly why: string,
    /** The message, with its id; none when one was asked for or cancelled. */
    readonly draft?: Draft,
  ) {
    super(`gave up${draft ? ` on message ${draft.id}` : ""} after ${tries} tries: ${why}`);
  }
}

/** The words of a problem in a line. */
export function words(problem: Problem): string {
  return problem.detail ? `${problem.title}: ${problem.detail}` : problem.title;
}
