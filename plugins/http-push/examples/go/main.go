package main

import (
	"encoding/json"
	"log"
	"net/http"
)

func handle(w http.ResponseWriter, r *http.Request) {
	var order struct{ OrderId string }
	if err := json.NewDecoder(r.Body).Decode(&order); err != nil || order.OrderId == "" {
		http.Error(w, "the order has no orderId", http.StatusUnprocessableEntity)
		return
	}
	// The delivery is the same over all attempts.
	log.Print("delivery ", r.Header.Get("courier-delivery"), ": ", r.Header.Get("ce-type"), " ", order.OrderId)
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	http.HandleFunc("POST /courier", handle)
	log.Fatal(http.ListenAndServe(":8080", nil))
}
