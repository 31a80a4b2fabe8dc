from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

app = FastAPI()


@app.post("/courier")
async def handle(request: Request):
    order = await request.json()
    delivery = request.headers["courier-delivery"]  # the same over all attempts
    if not order.get("orderId"):
        return JSONResponse({"verdict": "reject", "reason": "the order has no orderId"}, 422)
    print(f"delivery {delivery}: {request.headers['ce-type']} {order['orderId']}", flush=True)
    return Response(status_code=204)
