package client

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Dialect is a database that has an outbox.
type Dialect string

const (
	// PostgreSQL writes its parameters $1.
	PostgreSQL Dialect = "postgres"
	// SQLite writes its parameters ?.
	SQLite Dialect = "sqlite"
)

// Executor is a *sql.Tx, or a *sql.Conn within a transaction.
type Executor interface {
	ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error)
}

// plainName is a table's, or its schema's.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// PublishIn writes a message into the outbox within a transaction of the
// service's own: it is published if and only if that transaction commits. It
// answers the message's id. The error is an [InvalidError], or what the
// database says.
func (publisher *Publisher) PublishIn(ctx context.Context, tx Executor, dialect Dialect, event Event) (string, error) {
	draft, err := publisher.Draft(ctx, event)
	if err != nil {
		return "", err
	}
	// A *sql.DB, and whatever wraps one.
	if _, isPool := tx.(interface{ SetMaxOpenConns(int) }); isPool {
		why := fmt.Sprintf("a %T has a connection of its own for every statement: pass the transaction", tx)
		return "", &InvalidError{ID: draft.ID(), Why: why}
	}
	statement, values, err := OutboxInsert(dialect, draft, publisher.table)
	if err != nil {
		return "", err
	}
	if _, err := tx.ExecContext(ctx, statement, values...); err != nil {
		return "", fmt.Errorf("the outbox row was not written: %w", err)
	}
	return draft.ID(), nil
}

// OutboxInsert is the statement that writes a message into an outbox, and its
// parameters, for other libraries than database/sql.
func OutboxInsert(dialect Dialect, draft *Draft, table string) (string, []any, error) {
	message := draft.message
	invalid := func(format string, words ...any) (string, []any, error) {
		return "", nil, &InvalidError{ID: message.ID, Why: fmt.Sprintf(format, words...)}
	}
	if dialect != PostgreSQL && dialect != SQLite {
		return invalid("an outbox lies in %q or %q, not in %q", PostgreSQL, SQLite, dialect)
	}
	if !utf8.Valid(message.Key) {
		return invalid("a key in an outbox is text, and this one is not")
	}
	if !utf8.Valid(draft.body) {
		return invalid("a body in an outbox is text, and this one is not")
	}
	parts := strings.Split(table, ".")
	for _, part := range parts {
		if !plainName.MatchString(part) {
			return invalid("the outbox table %q is no plain name", table)
		}
	}
	named := headers(message)
	isTyped := false
	for name := range named {
		isTyped = isTyped || strings.EqualFold(name, "content-type")
	}
	if !draft.isJSON && !isTyped {
		named["content-type"] = "application/octet-stream"
	}
	headerText, err := writeJSON(named)
	if err != nil {
		return invalid("the headers cannot be written as JSON: %v", err)
	}
	var names, marks []string
	var values []any
	isPostgres := dialect == PostgreSQL
	// `written` has %s where the parameter stands.
	add := func(name string, value any, written string) {
		values = append(values, value)
		mark := "?"
		if isPostgres {
			mark = fmt.Sprintf("$%d", len(values))
		}
		names, marks = append(names, name), append(marks, strings.Replace(written, "%s", mark, 1))
	}
	of := func(postgres, sqlite string) string {
		if isPostgres {
			return postgres
		}
		return sqlite
	}
	add("id", message.ID, "%s")
	// An outbox of one's own may have no such column.
	if draft.source != "" {
		add("source", draft.source, "%s")
	}
	add("topic", message.Topic, "%s")
	add("type", message.Type, "%s")
	if message.Key != nil {
		add("key", string(message.Key), "%s")
	}
	kind := message.Kind
	if kind == "" {
		kind = EventKind
	}
	add("kind", string(kind), "%s")
	add("body", string(draft.body), "%s")
	add("headers", string(headerText), of("%s::text::jsonb", "%s"))
	switch millis := wholeMillis(message.Delay); {
	case !message.DeliverAt.IsZero():
		add("deliver_at", deliverAt(message), of("%s::text::timestamptz", "%s"))
	case millis > 0 && isPostgres:
		// The clock is the database's, as is that of everything else in the row.
		add("deliver_at", millis, "clock_timestamp() + %s::bigint * interval '1 millisecond'")
	case millis > 0:
		// SQLite cuts its clock to milliseconds: one more, so that nothing is early.
		seconds := fmt.Sprintf("+%d.%03d seconds", (millis+1)/1000, (millis+1)%1000)
		add("deliver_at", seconds, "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', %s)")
	}
	target := `"` + strings.Join(parts, `"."`) + `"`
	statement := "INSERT INTO " + target + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(marks, ", ") + ")"
	return statement, values, nil
}
