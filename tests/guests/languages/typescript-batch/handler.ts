// The batch scenarios of tests/languages.rs in TypeScript: `do` names one.
import { batchHandler, type Item, type ItemOutcome } from "courier-sdk";

interface Scenario {
  do: string;
  topic: string;
}

async function outcome({ event, ctx }: Item<Scenario>, size: number): Promise<ItemOutcome> {
  switch (event.do) {
    case "effects":
      ctx.log(`one of ${size}`);
      ctx.state.set(`batch/${ctx.message.keyText}`, { size });
      ctx.publish({ topic: event.topic, type: "Batched", key: ctx.message.key ?? "", body: { size } });
      return;
    case "reject":
      ctx.publish({ topic: event.topic, type: "Rejected", key: "never", body: {} });
      return ctx.reject("never");
    case "retry":
      await new Promise((resolve) => setTimeout(resolve, 5));
      return ctx.attempt.number === 1 ? ctx.retry("once more", { after: "100ms" }) : undefined;
    case "throw":
      throw new Error("it spoils the batch");
    default:
      return ctx.reject(`there is no scenario ${event.do}`);
  }
}

export default batchHandler<Scenario>({ topics: ["scenarios"], publishes: ["scenarios-out"] }, (items) =>
  Promise.all(items.map((item) => outcome(item, items.length))),
);
