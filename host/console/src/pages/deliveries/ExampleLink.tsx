/** From a delivery's id to its message, which is looked up when asked for. */
import { useNavigate } from "@tanstack/react-router";
import { get, path } from "../../api/client";
import type { Delivery } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Button } from "../../ui/Button";
import { words } from "./words";

export function ExampleLink({ delivery, label }: { delivery: string; label?: string }) {
  const say = useWords(words);
  const navigate = useNavigate();
  const open = async () => {
    const { message_id } = await get<Delivery>(path("deliveries", delivery));
    await navigate({ to: "/messages/$id", params: { id: message_id } });
  };
  return (
    <Button look="bare" onClick={() => void open()}>
      {label ?? say("example")}
    </Button>
  );
}
