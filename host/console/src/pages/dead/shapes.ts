/** A delivery that was given up to a topic. */
export interface DeadLetter {
  delivery: string;
  message_id: string;
  group: string;
  topic: string;
  partition: number;
  offset: number;
  key?: string | null;
  key_base64?: string | null;
  type: string | null;
  reason: string | null;
  attempts: number;
  dead_letter: string;
  at: string;
}
