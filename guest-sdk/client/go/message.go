package client

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Event is what can be published: a [Message], a [Draft], or a type of the
// service's own that says which message it is.
type Event interface {
	CourierMessage() Message
}

// Kind says who handles a message.
type Kind string

const (
	// EventKind lets each group handle it once. It is what the empty kind means.
	EventKind Kind = "event"
	// BroadcastKind lets every node of each group handle it.
	BroadcastKind Kind = "broadcast"
)

// Message is a message as a service writes it.
type Message struct {
	// ID is one of the service's own, such as that of the order it is about:
	// then a service that forgot whether it sent the message may send it again.
	// Without one the publisher chooses one before it sends.
	ID string
	// Topic is where it goes.
	Topic string
	// Type says what happened, for example OrderCreated.
	Type string
	// Key is the primary key: messages of one key are handled in order. Nil is
	// none.
	Key []byte
	// Body is sent as JSON, as encoding/json writes it; a []byte is sent as it
	// is, and a json.RawMessage is JSON already.
	Body any
	// ContentType is the media type of the body; JSON's, or that of bytes,
	// unless given.
	ContentType string
	// Headers are further ones; a name may repeat.
	Headers []Header
	// Kind says who handles it.
	Kind Kind
	// Delay delivers it no sooner than so long after the host took it.
	Delay time.Duration
	// DeliverAt delivers it no sooner than at this time.
	DeliverAt time.Time
	// Traceparent is the trace it belongs to, as in the header of W3C Trace
	// Context.
	Traceparent string
}

// CourierMessage is the message itself.
func (message Message) CourierMessage() Message {
	return message
}

// Header is a header of a message; a nil value is none.
type Header struct {
	Name  string
	Value []byte
}

// Draft is a message with an id, as it is sent. It can be sent any number of
// times and is one message: a host that knows the id answers as it did before.
type Draft struct {
	message Message
	source  string
	body    []byte
	isJSON  bool
	wire    []byte
}

// ID is the message's.
func (draft *Draft) ID() string {
	return draft.message.ID
}

// CourierMessage is the message with its id.
func (draft *Draft) CourierMessage() Message {
	return draft.message
}

func newDraft(message Message, source string) (*Draft, error) {
	if message.ID == "" {
		message.ID = newID()
	}
	invalid := func(format string, words ...any) error {
		return &InvalidError{ID: message.ID, Why: fmt.Sprintf(format, words...)}
	}
	if message.Delay < 0 {
		return nil, invalid("the delay is %v; write one from 0 on", message.Delay)
	}
	if message.Delay > 0 && !message.DeliverAt.IsZero() {
		return nil, invalid("it has both Delay and DeliverAt; write one of them")
	}
	switch message.Kind {
	case "", EventKind, BroadcastKind:
	default:
		return nil, invalid("the kind %q is unknown; write %q or %q", message.Kind, EventKind, BroadcastKind)
	}
	draft := &Draft{message: message, source: source}
	switch body := message.Body.(type) {
	case json.RawMessage:
		if !json.Valid(body) {
			return nil, invalid("the body is a json.RawMessage that is no JSON")
		}
		draft.body, draft.isJSON = bytes.Clone(body), true
	case []byte:
		draft.body = bytes.Clone(body)
	default:
		text, err := writeJSON(body)
		if err != nil {
			return nil, invalid("the body cannot be written as JSON: %v", err)
		}
		draft.body, draft.isJSON = text, true
	}
	var err error
	if draft.wire, err = draft.write(); err != nil {
		return nil, invalid("%v", err)
	}
	return draft, nil
}

// write is what POST /v1/messages takes.
func (draft *Draft) write() ([]byte, error) {
	message := draft.message
	wire := struct {
		ID         string         `json:"id"`
		Topic      string         `json:"topic"`
		Type       string         `json:"type"`
		Key        *string        `json:"key,omitempty"`
		KeyBase64  *string        `json:"key_base64,omitempty"`
		Source     string         `json:"source,omitempty"`
		Kind       Kind           `json:"kind,omitempty"`
		Delay      string         `json:"delay,omitempty"`
		DeliverAt  string         `json:"deliver_at,omitempty"`
		Headers    map[string]any `json:"headers,omitempty"`
		BodyBase64 *string        `json:"body_base64,omitempty"`
	}{
		ID: message.ID, Topic: message.Topic, Type: message.Type, Source: draft.source, Kind: message.Kind,
		DeliverAt: deliverAt(message), Headers: headers(message),
	}
	if message.Key != nil {
		if text := string(message.Key); utf8.ValidString(text) {
			wire.Key = &text
		} else {
			text = base64.StdEncoding.EncodeToString(message.Key)
			wire.KeyBase64 = &text
		}
	}
	if message.Delay > 0 {
		wire.Delay = fmt.Sprintf("%dms", wholeMillis(message.Delay))
	}
	if !draft.isJSON {
		text := base64.StdEncoding.EncodeToString(draft.body)
		wire.BodyBase64 = &text
	}
	head, err := writeJSON(wire)
	if err != nil || !draft.isJSON {
		return head, err
	}
	// The body's own text, so that what is sent again is the same letter for letter.
	return bytes.Join([][]byte{head[:len(head)-1], []byte(`,"body":`), draft.body, []byte("}")}, nil), nil
}

// headers are all of a message as JSON has them: with those that other fields
// say, and an array for a name that repeats.
func headers(message Message) map[string]any {
	values := map[string][]any{}
	for _, header := range message.Headers {
		var value any
		switch {
		case header.Value == nil:
		case utf8.Valid(header.Value):
			value = string(header.Value)
		default:
			value = map[string]string{"base64": base64.StdEncoding.EncodeToString(header.Value)}
		}
		values[header.Name] = append(values[header.Name], value)
	}
	object := map[string]any{}
	for name, of := range values {
		object[name] = of
		if len(of) == 1 {
			object[name] = of[0]
		}
	}
	if message.ContentType != "" {
		object["content-type"] = message.ContentType
	}
	if message.Traceparent != "" {
		object["traceparent"] = message.Traceparent
	}
	return object
}

// wholeMillis rounds up, so that nothing is early.
func wholeMillis(delay time.Duration) int64 {
	return int64((delay + time.Millisecond - 1) / time.Millisecond)
}

// deliverAt is a time as the host reads it: whole microseconds, rounded up so
// that nothing is early.
func deliverAt(message Message) string {
	if message.DeliverAt.IsZero() {
		return ""
	}
	at := message.DeliverAt.UTC()
	if whole := at.Truncate(time.Microsecond); whole.Before(at) {
		at = whole.Add(time.Microsecond)
	}
	return at.Format("2006-01-02T15:04:05.000000Z")
}

// writeJSON writes `<` as it is: a body is data, not a part of a page.
func writeJSON(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// newID is a UUID of version 7: ids of one sender sort by time.
func newID() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		panic("the system has no random numbers: " + err.Error())
	}
	millis := time.Now().UnixMilli()
	for at := 5; at >= 0; at-- {
		id[at] = byte(millis)
		millis >>= 8
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	text := hex.EncodeToString(id[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
