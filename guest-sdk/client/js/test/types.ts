// Compiles, and so says that the types take what the libraries have.
import Database from "better-sqlite3";
import { Client } from "pg";

import { event, Publisher, RefusedError, type MessageView, type Receipt } from "courier-client";

interface Order {
  order_id: string;
}

const orderCreated = event<Order>({ topic: "order", type: "OrderCreated", key: (order) => order.order_id });

export async function use(publisher: Publisher, client: Client): Promise<void> {
  const receipt: Receipt = await publisher.publish(orderCreated({ order_id: "o-1" }));
  const answers = await publisher.publishAll([orderCreated({ order_id: "o-2" })]);
  for (const answer of answers) if (answer instanceof RefusedError) console.log(answer.problem.detail);
  const view: MessageView = await publisher.ask(receipt.id);
  console.log(view.deliveries[0]?.attempts[0]?.reason);
  const promised: Promise<string> = publisher.publishIn(client, orderCreated({ order_id: "o-3" }));
  const here: string = publisher.publishIn(new Database(":memory:"), orderCreated({ order_id: "o-4" }));
  console.log(await promised, here);
}

// @ts-expect-error a message has a topic
export const wrong = (publisher: Publisher) => publisher.publish({ type: "T", body: 1 });
