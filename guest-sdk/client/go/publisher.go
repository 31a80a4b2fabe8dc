package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

const (
	// batch and batchBytes bound one request of PublishAll.
	batch      = 500
	batchBytes = 4 << 20
	// keptConnections are kept for the next request.
	keptConnections = 16
	// outbox is the outbox table, unless told otherwise.
	outbox = "courier_outbox"
)

// Publisher publishes messages through a host, and asks what became of them.
// Goroutines may share it.
type Publisher struct {
	messages    string
	http        *http.Client
	token       string
	source      string
	timeout     time.Duration
	tryTimeout  time.Duration
	traceparent func(context.Context) string
	table       string
}

// Option says how a publisher publishes.
type Option func(*Publisher)

// WithToken is shown to the host.
func WithToken(token string) Option {
	return func(publisher *Publisher) { publisher.token = token }
}

// WithSource names the sending service; without it, the host takes the token's
// name.
func WithSource(source string) Option {
	return func(publisher *Publisher) { publisher.source = source }
}

// WithTimeout is how long a message is tried in all before a [GaveUpError]; 15 s
// unless given.
func WithTimeout(timeout time.Duration) Option {
	return func(publisher *Publisher) { publisher.timeout = timeout }
}

// WithTryTimeout is how long one try may take; 8 s unless given.
func WithTryTimeout(timeout time.Duration) Option {
	return func(publisher *Publisher) { publisher.tryTimeout = timeout }
}

// WithTraceparent tells the trace of a call, as in the header of W3C Trace
// Context; empty is none.
func WithTraceparent(of func(context.Context) string) Option {
	return func(publisher *Publisher) { publisher.traceparent = of }
}

// WithOutboxTable is the table of PublishIn, with its schema before a dot if it
// has one; courier_outbox unless given.
func WithOutboxTable(table string) Option {
	return func(publisher *Publisher) { publisher.table = table }
}

// WithHTTPClient asks through another client, for example one that trusts
// another certificate. Let it follow no redirects: a token goes to the host
// that was named, and nowhere else.
func WithHTTPClient(client *http.Client) Option {
	return func(publisher *Publisher) { publisher.http = client }
}

// New makes a publisher that asks the host at address, for example
// http://127.0.0.1:7070. The error is an [InvalidError] when that is none that
// HTTP can ask.
func New(address string, options ...Option) (*Publisher, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, &InvalidError{Why: fmt.Sprintf("the host %q is no URL: %v", address, err)}
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return nil, &InvalidError{Why: fmt.Sprintf("the host %q is no http or https URL", address)}
	}
	publisher := &Publisher{
		messages:    parsed.JoinPath("v1", "messages").String(),
		http:        newHTTPClient(),
		timeout:     defaultTimeout,
		tryTimeout:  defaultTryTimeout,
		traceparent: func(context.Context) string { return "" },
		table:       outbox,
	}
	for _, option := range options {
		option(publisher)
	}
	return publisher, nil
}

// newHTTPClient keeps connections enough for many goroutines, and follows no
// redirects: a token goes to the host that was named, and nowhere else.
func newHTTPClient() *http.Client {
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if usual, ok := http.DefaultTransport.(*http.Transport); ok {
		transport := usual.Clone()
		transport.MaxIdleConnsPerHost = keptConnections
		client.Transport = transport
	}
	return client
}

// Draft is the message of an event with its id, as it is sent; publish it any
// number of times.
func (publisher *Publisher) Draft(ctx context.Context, event Event) (*Draft, error) {
	return publisher.draft(ctx, event, nil)
}

func (publisher *Publisher) draft(ctx context.Context, event Event, change func(*Message)) (*Draft, error) {
	if draft, ok := event.(*Draft); ok {
		if change != nil {
			why := "a draft is sent as it was made: give the Message its delay, time or kind before"
			return nil, &InvalidError{ID: draft.ID(), Why: why}
		}
		return draft, nil
	}
	if event == nil {
		return nil, &InvalidError{Why: "there is no message"}
	}
	message := event.CourierMessage()
	if change != nil {
		change(&message)
	}
	if message.Traceparent == "" {
		message.Traceparent = publisher.traceparent(ctx)
	}
	return newDraft(message, publisher.source)
}

// Publish publishes a message, and tries again with its id while the cause can
// pass. The error is an [InvalidError], a [RefusedError] or a [GaveUpError].
func (publisher *Publisher) Publish(ctx context.Context, event Event) (Receipt, error) {
	return publisher.publish(ctx, event, nil)
}

// PublishAfter publishes a message that is delivered no sooner than after delay.
func (publisher *Publisher) PublishAfter(ctx context.Context, event Event, delay time.Duration) (Receipt, error) {
	return publisher.publish(ctx, event, func(message *Message) { message.Delay = delay })
}

// PublishAt publishes a message that is delivered no sooner than at a time.
func (publisher *Publisher) PublishAt(ctx context.Context, event Event, at time.Time) (Receipt, error) {
	return publisher.publish(ctx, event, func(message *Message) { message.DeliverAt = at })
}

// PublishBroadcast publishes a message that every node of each group handles.
func (publisher *Publisher) PublishBroadcast(ctx context.Context, event Event) (Receipt, error) {
	return publisher.publish(ctx, event, func(message *Message) { message.Kind = BroadcastKind })
}

// item is the answer to one message.
type item struct {
	ID       *string         `json:"id"`
	State    State           `json:"state"`
	Retrying bool            `json:"retrying"`
	Warning  string          `json:"warning"`
	Problem  json.RawMessage `json:"problem"`
}

func (item item) receipt() Receipt {
	receipt := Receipt{State: item.State, Retrying: item.Retrying, Warning: item.Warning}
	if item.ID != nil {
		receipt.ID = *item.ID
	}
	return receipt
}

func (publisher *Publisher) publish(ctx context.Context, event Event, change func(*Message)) (Receipt, error) {
	draft, err := publisher.draft(ctx, event, change)
	if err != nil {
		return Receipt{}, err
	}
	tries := publisher.tries(draft)
	for {
		status, text, why := tries.ask(ctx, http.MethodPost, publisher.messages, draft.wire, draft.message.Traceparent)
		if why == nil && status != http.StatusAccepted {
			problem := readProblem(text, status)
			return Receipt{}, &RefusedError{Status: status, Problem: problem, ID: problem.ID}
		}
		if why == nil {
			var taken item
			if json.Unmarshal(text, &taken) == nil && taken.State != "" {
				return taken.receipt(), nil
			}
			why = errNoHost
		}
		if err := tries.rest(ctx, why); err != nil {
			return Receipt{}, err
		}
	}
}

// PublishAll publishes messages in their order; results for each, in the same
// order. The error is an [InvalidError] when one of them cannot be written:
// then none was sent.
func (publisher *Publisher) PublishAll(ctx context.Context, events ...Event) ([]Result, error) {
	drafts := make([]*Draft, len(events))
	for at, event := range events {
		draft, err := publisher.Draft(ctx, event)
		if err != nil {
			return nil, err
		}
		drafts[at] = draft
	}
	results := make([]Result, len(drafts))
	for start := 0; start < len(drafts); {
		end, size := start, 0
		for ; end < len(drafts) && end-start < batch; end++ {
			if size += len(drafts[end].wire); size > batchBytes && end > start {
				break
			}
		}
		publisher.publishBatch(ctx, drafts[start:end], results[start:end])
		start = end
	}
	return results, nil
}

// publishBatch sends one request's drafts until each has its answer.
func (publisher *Publisher) publishBatch(ctx context.Context, drafts []*Draft, results []Result) {
	open := make([]int, len(drafts))
	for at := range drafts {
		open[at] = at
	}
	tries := publisher.tries(nil)
	for {
		parts := make([][]byte, len(open))
		for place, at := range open {
			parts[place] = drafts[at].wire
		}
		body := bytes.Join([][]byte{[]byte("["), bytes.Join(parts, []byte(",")), []byte("]")}, nil)
		status, text, why := tries.ask(ctx, http.MethodPost, publisher.messages, body, publisher.traceparent(ctx))
		if why == nil {
			open, why = settle(open, status, text, drafts, results)
		}
		if len(open) == 0 {
			return
		}
		if err := tries.rest(ctx, why); err != nil {
			var gaveUp *GaveUpError
			errors.As(err, &gaveUp)
			for _, at := range open {
				results[at].Err = &GaveUpError{Draft: drafts[at], Tries: gaveUp.Tries, Cause: gaveUp.Cause}
			}
			return
		}
	}
}

// settle notes what an answer says of the messages asked for, and answers those
// that are still open and why.
func settle(asked []int, status int, text []byte, drafts []*Draft, results []Result) ([]int, error) {
	var answer struct {
		Items []item `json:"items"`
	}
	if json.Unmarshal(text, &answer) != nil || answer.Items == nil {
		if status == http.StatusAccepted {
			return asked, errNoHost
		}
		for _, at := range asked {
			results[at].Err = &RefusedError{Status: status, Problem: readProblem(text, status), ID: drafts[at].ID()}
		}
		return nil, nil
	}
	why := errors.New("the host answered fewer messages than it was sent")
	var open []int
	for place, at := range asked {
		if place >= len(answer.Items) {
			open = append(open, at)
			continue
		}
		one := answer.Items[place]
		if len(one.Problem) == 0 || string(one.Problem) == "null" {
			results[at].Receipt = one.receipt()
			continue
		}
		problem := readProblem(one.Problem, http.StatusBadRequest)
		if problem.Status == 0 {
			problem.Status = http.StatusBadRequest
		}
		if passes(problem.Status) {
			open, why = append(open, at), errors.New(problem.String())
			continue
		}
		results[at].Err = &RefusedError{Status: problem.Status, Problem: problem, ID: one.receipt().ID}
	}
	return open, why
}

// Which names a message where its id repeats.
type Which struct {
	// Topic is the one it was published on.
	Topic string
	// Source is the service that sent it.
	Source string
}

// Cancel takes a delayed message back that is not due yet; doing so again
// answers the same. The error is a [RefusedError] with 404 for an unknown one,
// with 409 for one that went out.
func (publisher *Publisher) Cancel(ctx context.Context, id string, which ...Which) (*MessageView, error) {
	return publisher.one(ctx, http.MethodDelete, id, which)
}

// Ask is a message with its deliveries and their attempts. The error is a
// [RefusedError] with 404 for an unknown one.
func (publisher *Publisher) Ask(ctx context.Context, id string, which ...Which) (*MessageView, error) {
	return publisher.one(ctx, http.MethodGet, id, which)
}

func (publisher *Publisher) one(ctx context.Context, method, id string, which []Which) (*MessageView, error) {
	query := url.Values{}
	for _, named := range which {
		if named.Topic != "" {
			query.Set("topic", named.Topic)
		}
		if named.Source != "" {
			query.Set("source", named.Source)
		}
	}
	address := publisher.messages + "/" + url.PathEscape(id)
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	tries := publisher.tries(nil)
	for {
		status, text, why := tries.ask(ctx, method, address, nil, publisher.traceparent(ctx))
		if why == nil && status != http.StatusOK {
			return nil, &RefusedError{Status: status, Problem: readProblem(text, status), ID: id}
		}
		if why == nil {
			var view MessageView
			if json.Unmarshal(text, &view) == nil && view.State != "" {
				return &view, nil
			}
			why = errNoHost
		}
		if err := tries.rest(ctx, why); err != nil {
			return nil, err
		}
	}
}
