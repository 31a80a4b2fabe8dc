/** How fast a group is, as the overview knows it. */
import { useQuery } from "@tanstack/react-query";
import { get, path } from "../../api/client";
import type { Overview } from "../../api/shapes";
import { duration } from "../../format/duration";
import { Count } from "../../ui/Count";

export function Rates({ group, what }: { group: string; what: "rate" | "times" }) {
  const query = useQuery({
    queryKey: ["overview"],
    queryFn: ({ signal }) => get<Overview>(path("overview"), { signal }),
    refetchInterval: 5_000,
  });
  const found = query.data?.groups.find((one) => one.group === group);
  if (what === "rate") return <Count value={found?.per_minute.handled} />;
  const ms = (value: number | null | undefined) =>
    value === null || value === undefined ? <Count value={null} /> : duration(value);
  return (
    <>
      {ms(found?.p50_ms)} / {ms(found?.p99_ms)}
    </>
  );
}
