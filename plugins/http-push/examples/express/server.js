import express from "express";

const app = express();
app.use(express.json({ limit: "2mb" })); // a message has 1 MiB at most

app.post("/courier", (request, response) => {
  const delivery = request.get("courier-delivery"); // the same over all attempts
  if (!request.body?.orderId) {
    return response.status(422).json({ verdict: "reject", reason: "the order has no orderId" });
  }
  console.log(`delivery ${delivery}: ${request.get("ce-type")} ${request.body.orderId}`);
  response.sendStatus(204);
});

app.listen(8080);
