import { handler } from "courier-sdk";

/** An order, as far as this handler cares. */
interface OrderCreated {
  order_id: string;
  order_name: string;
  quantity: number;
}

/** What a parcel takes at most; what is more goes on a pallet. */
const MAX_PARCEL_ITEMS = 2;

/** Says how each order is shipped: a sample in TypeScript. */
export default handler<OrderCreated>(
  { group: "shipping", topics: ["order"], types: ["OrderCreated"], publishes: ["shipment"], uses: ["publish"] },
  async (order, ctx) => {
    if (order.quantity === 0) throw ctx.reject(`nothing of ${order.order_name} to ship`);
    const way = order.quantity <= MAX_PARCEL_ITEMS ? "parcel" : "pallet";
    ctx.publish({
      topic: "shipment",
      type: "ShipmentRequested",
      key: order.order_id,
      body: { order_id: order.order_id, way },
    });
    ctx.log(`order ${order.order_id} goes as a ${way}`);
  },
);
