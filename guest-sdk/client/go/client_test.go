// What needs no host: how messages are written, and how answers and silences
// are taken.
package client_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"courier.dev/client"
)

type orderCreated struct {
	OrderID string `json:"order_id"`
}

func (order orderCreated) CourierMessage() client.Message {
	return client.Message{Topic: "order", Type: "OrderCreated", Key: []byte(order.OrderID), Body: order}
}

var order = orderCreated{OrderID: "o-1"}

// answer is what a host says; a status of 0 breaks the connection.
type answer struct {
	status  int
	body    string
	headers map[string]string
}

type asked struct {
	path   string
	header http.Header
	body   string
}

// host answers each request with the next of a list, the last one for ever.
func host(t *testing.T, answers ...answer) (string, func() []asked) {
	t.Helper()
	requests := make(chan asked, 1000)
	count := 0
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		requests <- asked{request.URL.Path, request.Header, string(body)}
		next := answers[min(count, len(answers)-1)]
		count++
		if next.status == 0 {
			panic(http.ErrAbortHandler)
		}
		for name, value := range next.headers {
			writer.Header().Set(name, value)
		}
		writer.WriteHeader(next.status)
		io.WriteString(writer, next.body)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []asked {
		server.Close()
		close(requests)
		var all []asked
		for request := range requests {
			all = append(all, request)
		}
		return all
	}
}

func publisher(t *testing.T, address string, options ...client.Option) *client.Publisher {
	t.Helper()
	publisher, err := client.New(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	return publisher
}

// sent is what a publisher posts for an event, without its id.
func sent(t *testing.T, event client.Event, options ...client.Option) map[string]any {
	t.Helper()
	address, requests := host(t, answer{status: 202, body: `{"id": "m", "state": "COMMITTED"}`})
	if _, err := publisher(t, address, options...).Publish(context.Background(), event); err != nil {
		t.Fatal(err)
	}
	var wire map[string]any
	if err := json.Unmarshal([]byte(requests()[0].body), &wire); err != nil {
		t.Fatal(err)
	}
	return wire
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
}

func TestADraftIsWrittenAsTheHostReadsIt(t *testing.T) {
	wire := sent(t, client.Message{
		ID: "o-1", Topic: "order", Type: "OrderCreated", Key: []byte{0xff}, Body: map[string]string{"a": "<茶>"},
		Kind: client.BroadcastKind, Delay: 1200 * time.Microsecond, ContentType: "a/b", Traceparent: "00-a-b-01",
		Headers: []client.Header{{"a", []byte("1")}, {"a", []byte{0, 255}}, {"b", nil}},
	}, client.WithSource("shop"))
	equal(t, wire, map[string]any{
		"id": "o-1", "topic": "order", "type": "OrderCreated", "key_base64": "/w==", "source": "shop",
		"kind": "broadcast", "delay": "2ms", "body": map[string]any{"a": "<茶>"},
		"headers": map[string]any{
			"a": []any{"1", map[string]any{"base64": "AP8="}}, "b": nil, "content-type": "a/b", "traceparent": "00-a-b-01",
		},
	})
	at := time.Date(1970, 1, 1, 1, 0, 1, 500_001, time.FixedZone("", 3600))
	wire = sent(t, client.Message{Topic: "order", Type: "T", Key: []byte("k"), Body: []byte{1}, DeliverAt: at})
	id := regexp.MustCompile("^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
	if text, _ := wire["id"].(string); !id.MatchString(text) {
		t.Errorf("%q is no UUID of version 7", text)
	}
	delete(wire, "id")
	equal(t, wire, map[string]any{
		"topic": "order", "type": "T", "key": "k", "deliver_at": "1970-01-01T00:00:01.000501Z", "body_base64": "AQ==",
	})
	wire = sent(t, client.Message{Topic: "order", Type: "T", Body: json.RawMessage(`{"n": 1.10}`), Key: []byte{}})
	equal(t, []any{wire["body"], wire["key"]}, []any{map[string]any{"n": 1.1}, ""})
}

func TestADraftKeepsTheBodyThatItWasMadeWith(t *testing.T) {
	body := []byte("a")
	draft, err := publisher(t, "http://a").Draft(context.Background(), client.Message{Topic: "a", Type: "T", Body: body})
	if err != nil {
		t.Fatal(err)
	}
	body[0] = 'b'
	_, values, err := client.OutboxInsert(client.SQLite, draft, "outbox")
	if err != nil || !strings.Contains(fmt.Sprint(values), " a ") {
		t.Errorf("%v, %v", values, err)
	}
}

func TestWhatCannotBeWrittenIsToldBeforeAnythingIsSent(t *testing.T) {
	address, requests := host(t, answer{status: 503})
	publisher := publisher(t, address)
	of := func(change func(*client.Message)) client.Message {
		message := order.CourierMessage()
		change(&message)
		return message
	}
	for _, wrong := range []client.Event{
		nil,
		of(func(message *client.Message) { message.Body = math.NaN() }),
		of(func(message *client.Message) { message.Body = func() {} }),
		of(func(message *client.Message) { message.Body = json.RawMessage("{") }),
		of(func(message *client.Message) { message.Kind = "news" }),
		of(func(message *client.Message) { message.Delay = -1 }),
		of(func(message *client.Message) { message.Delay, message.DeliverAt = 1, time.Now() }),
	} {
		var invalid *client.InvalidError
		if _, err := publisher.Publish(context.Background(), wrong); !errors.As(err, &invalid) {
			t.Errorf("%v: %v", wrong, err)
		}
		if _, err := publisher.PublishAll(context.Background(), order, wrong); !errors.As(err, &invalid) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	equal(t, len(requests()), 0)
	for _, wrong := range []string{"", "localhost:7070", "ftp://a", "http://", "mailto:a@b", "http://a:b"} {
		var invalid *client.InvalidError
		if _, err := client.New(wrong); !errors.As(err, &invalid) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestAMessageIsTriedAgainUnderItsIDUntilItIsTaken(t *testing.T) {
	address, requests := host(t,
		answer{},
		answer{status: 503, body: `{"title": "not available", "status": 503}`},
		answer{status: 202, body: "<html>"},
		answer{status: 202, body: `{"id": "m", "state": "SEND_FAIL", "retrying": true}`},
	)
	trace := client.WithTraceparent(func(context.Context) string { return "00-a-b-01" })
	publisher := publisher(t, address+"/courier/", client.WithToken("secret"), trace)
	receipt, err := publisher.Publish(context.Background(), order)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, receipt, client.Receipt{ID: "m", State: client.SendFail, Retrying: true})
	all := requests()
	equal(t, len(all), 4)
	for _, one := range all {
		equal(t, one.body, all[0].body)
	}
	equal(t, all[0].path, "/courier/v1/messages")
	equal(t, all[0].header.Get("authorization")+all[0].header.Get("traceparent"), "Bearer secret00-a-b-01")
	if !strings.Contains(all[0].body, `"headers":{"traceparent":"00-a-b-01"}`) {
		t.Error(all[0].body)
	}
}

func TestWhatWouldBeRefusedEachTimeIsNotTriedAgain(t *testing.T) {
	address, requests := host(t,
		answer{status: 409, body: `{"type": "urn:courier:problem:id-is-taken", "title": "id is taken", "status": 409, "detail": "x", "id": "m"}`},
		answer{status: 302, headers: map[string]string{"location": "http://127.0.0.1:1/"}},
	)
	var refused *client.RefusedError
	_, err := publisher(t, address).Publish(context.Background(), order)
	if !errors.As(err, &refused) || refused.ID != "m" || refused.Problem.Type != "urn:courier:problem:id-is-taken" || client.CanRetry(err) {
		t.Errorf("%v", err)
	}
	_, err = publisher(t, address, client.WithToken("secret")).Publish(context.Background(), order)
	if !errors.As(err, &refused) || refused.Status != 302 {
		t.Errorf("%v", err)
	}
	equal(t, len(requests()), 2)
}

func TestAWaitThatTheHostAsksForIsKeptWithinTheTimeThereIs(t *testing.T) {
	address, requests := host(t, answer{status: 429, headers: map[string]string{"retry-after": "60"}})
	_, err := publisher(t, address, client.WithTimeout(5*time.Second)).Publish(context.Background(), order)
	if !client.CanRetry(err) || len(requests()) != 1 {
		t.Errorf("%v", err)
	}
}

func TestAPublisherThatGaveUpHandsTheMessageBack(t *testing.T) {
	address, requests := host(t, answer{status: 503})
	publisher := publisher(t, address, client.WithTimeout(300*time.Millisecond))
	_, err := publisher.Publish(context.Background(), order)
	var gaveUp *client.GaveUpError
	if !errors.As(err, &gaveUp) || gaveUp.Tries < 2 || gaveUp.Draft.ID() == "" {
		t.Fatalf("%v", err)
	}
	if _, err := publisher.Publish(context.Background(), gaveUp.Draft); !client.CanRetry(err) {
		t.Fatalf("%v", err)
	}
	all := requests()
	equal(t, all[len(all)-1].body, all[0].body)
}

func TestACallEndsWithItsContext(t *testing.T) {
	address, _ := host(t, answer{status: 503})
	ctx, end := context.WithCancel(context.Background())
	end()
	_, err := publisher(t, address).Publish(ctx, order)
	if !errors.Is(err, context.Canceled) || !client.CanRetry(err) {
		t.Errorf("%v", err)
	}
}

func TestOfManyOnlyThoseWithoutAnAnswerAreSentAgain(t *testing.T) {
	address, requests := host(t,
		answer{status: 202, body: `{"items": [{"id": "a", "state": "COMMITTED"},
			{"id": "b", "state": "SEND_FAIL", "problem": {"title": "not available", "status": 503}},
			{"id": "c", "state": "SEND_FAIL", "problem": {"title": "invalid message", "status": 400}}]}`},
		answer{status: 400, body: `{"title": "nothing accepted", "items": [{"id": "b", "state": "COMMITTED"}]}`},
	)
	results, err := publisher(t, address).PublishAll(context.Background(), order, order, order)
	var refused *client.RefusedError
	if err != nil || results[0].Err != nil || results[1].Err != nil || !errors.As(results[2].Err, &refused) {
		t.Fatalf("%v %v", results, err)
	}
	all := requests()
	equal(t, []int{len(all), strings.Count(all[0].body, `"id":`), strings.Count(all[1].body, `"id":`)}, []int{2, 3, 1})
}

func TestManyMessagesGoInSeveralRequestsInTheirOrder(t *testing.T) {
	address, requests := host(t, answer{status: 503, headers: map[string]string{"retry-after": "60"}})
	events := make([]client.Event, 501)
	for at := range events {
		events[at] = client.Message{ID: fmt.Sprint(at), Topic: "a", Type: "T", Body: at}
	}
	results, err := publisher(t, address).PublishAll(context.Background(), events...)
	if err != nil {
		t.Fatal(err)
	}
	for at, result := range results {
		var gaveUp *client.GaveUpError
		if !errors.As(result.Err, &gaveUp) || gaveUp.Draft.ID() != fmt.Sprint(at) {
			t.Fatalf("%d: %v", at, result.Err)
		}
	}
	all := requests()
	equal(t, []int{strings.Count(all[0].body, `"id":`), strings.Count(all[1].body, `"id":`)}, []int{500, 1})
}

func TestAnOutboxRowHasTheColumnsOfThePublishedTable(t *testing.T) {
	ctx := context.Background()
	message := order.CourierMessage()
	message.ID, message.Headers = "o-1", []client.Header{{"a", []byte("1")}}
	draft, _ := publisher(t, "http://a", client.WithSource("shop")).Draft(ctx, message)
	statement, values, err := client.OutboxInsert(client.PostgreSQL, draft, "shop.outbox")
	equal(t, statement, `INSERT INTO "shop"."outbox" (id, source, topic, type, key, kind, body, headers) `+
		`VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb)`)
	equal(t, values, []any{"o-1", "shop", "order", "OrderCreated", "o-1", "event", `{"order_id":"o-1"}`, `{"a":"1"}`})
	equal(t, err, nil)
	message.Delay = 1500 * time.Millisecond
	later, _ := publisher(t, "http://a").Draft(ctx, message)
	statement, values, _ = client.OutboxInsert(client.SQLite, later, "outbox")
	if !strings.Contains(statement, "'now', ?)") || values[len(values)-1] != "+1.501 seconds" {
		t.Errorf("%s %v", statement, values)
	}
	statement, _, _ = client.OutboxInsert(client.PostgreSQL, later, "outbox")
	if !strings.Contains(statement, "clock_timestamp() + $8::bigint") {
		t.Error(statement)
	}
	raw, _ := publisher(t, "http://a").Draft(ctx, client.Message{Topic: "a", Type: "T", Body: []byte{255}})
	for _, wrong := range []func() (string, []any, error){
		func() (string, []any, error) { return client.OutboxInsert(client.PostgreSQL, draft, "a; drop") },
		func() (string, []any, error) { return client.OutboxInsert("mysql", draft, "outbox") },
		func() (string, []any, error) { return client.OutboxInsert(client.PostgreSQL, raw, "outbox") },
	} {
		var invalid *client.InvalidError
		if _, _, err := wrong(); !errors.As(err, &invalid) {
			t.Errorf("%v", err)
		}
	}
}

func TestAPoolIsNoTransaction(t *testing.T) {
	for _, pool := range []client.Executor{&sql.DB{}, wrapped{&sql.DB{}}} {
		_, err := publisher(t, "http://a").PublishIn(context.Background(), pool, client.PostgreSQL, order)
		if err == nil || !strings.Contains(err.Error(), "pass the transaction") {
			t.Errorf("%T: %v", pool, err)
		}
	}
}

// wrapped is a pool as sqlx and others have it.
type wrapped struct{ *sql.DB }

func TestADraftTakesNoOtherDelayOrKind(t *testing.T) {
	ctx := context.Background()
	publisher := publisher(t, "http://a")
	draft, err := publisher.Draft(ctx, order)
	if err != nil {
		t.Fatal(err)
	}
	for _, publish := range []func() (client.Receipt, error){
		func() (client.Receipt, error) { return publisher.PublishAfter(ctx, draft, time.Minute) },
		func() (client.Receipt, error) { return publisher.PublishAt(ctx, draft, time.Now().Add(time.Minute)) },
		func() (client.Receipt, error) { return publisher.PublishBroadcast(ctx, draft) },
	} {
		var invalid *client.InvalidError
		if _, err := publish(); !errors.As(err, &invalid) {
			t.Errorf("%v", err)
		}
	}
}

func TestATypeOfContentIsFoundInAnyCase(t *testing.T) {
	message := client.Message{Topic: "order", Type: "T", Body: []byte("a,b"), Headers: []client.Header{{Name: "Content-Type", Value: []byte("text/csv")}}}
	draft, err := publisher(t, "http://a").Draft(context.Background(), message)
	if err != nil {
		t.Fatal(err)
	}
	_, values, err := client.OutboxInsert(client.PostgreSQL, draft, "outbox")
	if err != nil || !slices.Contains(values, any(`{"Content-Type":"text/csv"}`)) {
		t.Errorf("%v %v", values, err)
	}
}
