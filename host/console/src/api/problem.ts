/** A refusal of the host (RFC 9457), or that there was no answer at all. */
export class Problem extends Error {
  override readonly name = "Problem";
  /** The HTTP status; 0 when nothing answered. */
  readonly status: number;
  readonly title: string;

  constructor(status: number, title: string, detail: string) {
    super(detail);
    this.status = status;
    this.title = title;
  }

  /** Whether the host could not be reached or is not ready: it may pass. */
  get mayPass(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

/** What any thrown thing says. */
export function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
