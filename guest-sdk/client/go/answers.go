package client

import (
	"encoding/json"
	"time"
)

// State says where a message or a delivery is.
type State string

const (
	// Committed means of a message that Kafka has it, or the host until it is
	// due; of a delivery that it was received, or will be.
	Committed State = "COMMITTED"
	// SendFail means that a message is not on Kafka.
	SendFail State = "SEND_FAIL"
	// PushFail means that the handler could not run.
	PushFail State = "PUSH_FAIL"
	// HandleFail means that the handler ran and failed.
	HandleFail State = "HANDLE_FAIL"
	// Handled means that the handler succeeded.
	Handled State = "HANDLED"
)

// Receipt is the answer to a message that was taken: it is durable.
type Receipt struct {
	// ID is the message's, to ask for.
	ID string `json:"id"`
	// State is Committed, or SendFail with Retrying.
	State State `json:"state"`
	// Retrying says that the host goes on trying by itself: Kafka was away, and
	// the message goes out when it is back. There is nothing to do for the
	// sender.
	Retrying bool `json:"retrying"`
	// Warning says why nobody will handle it, when no group takes such messages.
	Warning string `json:"warning,omitempty"`
}

// Result is what became of one of many messages: a receipt, or the error that
// Publish would have answered.
type Result struct {
	Receipt Receipt
	Err     error
}

// MessageView is a message and what became of it. A nil field is not known.
type MessageView struct {
	ID  string  `json:"id"`
	Key *string `json:"key"`
	// KeyBase64 is a key that is not text, decoded.
	KeyBase64 []byte    `json:"key_base64,omitempty"`
	Source    *string   `json:"source"`
	Topic     string    `json:"topic"`
	Type      *string   `json:"type"`
	Kind      Kind      `json:"kind"`
	Time      time.Time `json:"time"`
	State     State     `json:"state"`
	// Reason says why it is SendFail.
	Reason      *string        `json:"reason"`
	Retrying    bool           `json:"retrying"`
	Partition   *int32         `json:"partition"`
	Offset      *int64         `json:"offset"`
	ContentType *string        `json:"content_type"`
	Headers     map[string]any `json:"headers"`
	// Body is a body of JSON.
	Body json.RawMessage `json:"body,omitempty"`
	// BodyBase64 is the bytes of any other body.
	BodyBase64 []byte `json:"body_base64,omitempty"`
	// BodyMissing says why the body is not at hand.
	BodyMissing string     `json:"body_missing,omitempty"`
	DeliverAt   *time.Time `json:"deliver_at"`
	// Deliveries has one for each group; for each node of it if it is a
	// broadcast.
	Deliveries []Delivery `json:"deliveries"`
	Warning    string     `json:"warning,omitempty"`
	// Also are other messages of the same id.
	Also []PlaceView `json:"also,omitempty"`
}

// Delivery is one message for one group.
type Delivery struct {
	ID          string     `json:"id"`
	MessageID   string     `json:"message_id"`
	Group       string     `json:"group"`
	Topic       string     `json:"topic"`
	Partition   int32      `json:"partition"`
	Offset      int64      `json:"offset"`
	State       State      `json:"state"`
	Verdict     *string    `json:"verdict"`
	Reason      *string    `json:"reason"`
	Fingerprint *string    `json:"fingerprint"`
	Node        *string    `json:"node"`
	ReceivedAt  *time.Time `json:"received_at"`
	SettledAt   *time.Time `json:"settled_at"`
	// NextAttemptAt is when it runs again; nil means final, or that its turn
	// has not come.
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	Attempts      []Attempt  `json:"attempts"`
}

// Attempt is one run of a handler.
type Attempt struct {
	Number      int       `json:"number"`
	Counted     bool      `json:"counted"`
	Version     *string   `json:"version"`
	Node        string    `json:"node"`
	StartedAt   time.Time `json:"started_at"`
	FinishedAt  time.Time `json:"finished_at"`
	Verdict     string    `json:"verdict"`
	Reason      *string   `json:"reason"`
	Fingerprint *string   `json:"fingerprint"`
	Log         *string   `json:"log"`
}

// PlaceView is another message of the same id.
type PlaceView struct {
	Topic     string     `json:"topic"`
	Partition *int32     `json:"partition"`
	Offset    *int64     `json:"offset"`
	Source    *string    `json:"source"`
	Time      *time.Time `json:"time"`
	CreatedAt *time.Time `json:"created_at"`
	State     State      `json:"state"`
}
