import { expect, it } from "vitest";
import { fold } from "./fold";

const lost = (subject: string, detail: string) => ({
  kind: "lost_range",
  subject,
  detail,
  since: null,
  cause: null,
  path: "/v1/lost-ranges",
});

it("many troubles of one kind with one group are one line that counts them", () => {
  const folded = fold([
    lost("stock", "newest"),
    lost("mail", "other"),
    lost("stock", "older"),
    lost("stock", "oldest"),
  ]);
  expect(folded.map(({ subject, detail, more }) => [subject, detail, more])).toEqual([
    ["stock", "newest", 2],
    ["mail", "other", 0],
  ]);
});
