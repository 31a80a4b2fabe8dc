// Package conformance runs the scenarios that all clients share, against the
// hosts that COURIER_TEST_HOSTS describes: `cargo xtask test --only clients`
// starts them. It is a module of its own, so that the client needs no database
// driver.
package conformance

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"courier.dev/client"
	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"
)

const (
	patience = 30 * time.Second
	poll     = 50 * time.Millisecond
)

type hosts struct {
	Main     struct{ URL string }
	Away     struct{ URL string }
	Tokens   map[string]string
	SQLite   string
	Postgres string
}

type step struct {
	Do        string
	By        by
	Message   map[string]any
	Messages  []map[string]any
	ID        string
	Topic     string
	Host      string
	End       string
	AfterMS   int64 `json:"after_ms"`
	AtInMS    int64 `json:"at_in_ms"`
	Broadcast bool
	Expect    any
	Error     any
	SaveID    string `json:"save_id"`
	NotEarly  bool   `json:"not_early"`
}

type by struct {
	Host, Token, Source, Traceparent string
	TimeoutMS                        int64 `json:"timeout_ms"`
	TryTimeoutMS                     int64 `json:"try_timeout_ms"`
}

type scenario struct {
	Name      string
	Databases bool
	Steps     []json.RawMessage
}

type database struct {
	name, driver string
	dialect      client.Dialect
	address      func(hosts) string
}

var databases = []database{
	{"lib/pq", "postgres", client.PostgreSQL, func(hosts hosts) string {
		if strings.Contains(hosts.Postgres, "?") {
			return hosts.Postgres
		}
		return hosts.Postgres + "?sslmode=disable"
	}},
	{"modernc.org/sqlite", "sqlite", client.SQLite, func(hosts hosts) string {
		return "file:" + hosts.SQLite + "?_pragma=busy_timeout(10000)&_txlock=immediate"
	}},
}

func readHosts(t *testing.T) (hosts hosts) {
	t.Helper()
	file := os.Getenv("COURIER_TEST_HOSTS")
	if file == "" {
		t.Fatal("COURIER_TEST_HOSTS names no file: run `cargo xtask test --only clients`, which starts the hosts")
	}
	read(t, file, &hosts)
	return hosts
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestScenarios(t *testing.T) {
	hosts := readHosts(t)
	var table struct{ Scenarios []scenario }
	read(t, "../../scenarios.json", &table)
	for _, scenario := range table.Scenarios {
		if !scenario.Databases {
			t.Run(scenario.Name, func(t *testing.T) { newRun(t, hosts, nil).all(scenario) })
			continue
		}
		for _, database := range databases {
			t.Run(scenario.Name+" ("+database.name+")", func(t *testing.T) { newRun(t, hosts, &database).all(scenario) })
		}
	}
}

func TestTheExampleOfTheReadmeRuns(t *testing.T) {
	hosts := readHosts(t)
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```go\n(package main.*?)```").FindSubmatch(text)
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, example[1], 0o600); err != nil {
		t.Fatal(err)
	}
	program := exec.Command("go", "run", file)
	program.Env = append(os.Environ(), "COURIER_URL="+hosts.Main.URL, "COURIER_TOKEN="+hosts.Tokens["shop"])
	if printed, err := program.CombinedOutput(); err != nil || !strings.Contains(string(printed), "cancelled") {
		t.Fatalf("%v\n%s", err, printed)
	}
}

// run is one run of a scenario.
type run struct {
	*testing.T
	hosts    hosts
	database *database
	doors    map[string]*door
	names    map[string]string
	draft    *client.Draft
}

func newRun(t *testing.T, hosts hosts, database *database) *run {
	doors := map[string]*door{"lossy": lossy(t, hosts.Main.URL), "silent": silent(t, hosts.Main.URL)}
	return &run{t, hosts, database, doors, map[string]string{}, nil}
}

var placeholder = regexp.MustCompile(`\$(\w+)`)

func (run *run) all(scenario scenario) {
	for _, written := range scenario.Steps {
		named := placeholder.ReplaceAllStringFunc(string(written), func(name string) string {
			name = name[1:]
			if run.names[name] == "" {
				run.names[name] = name + "-go-" + rand.Text()
			}
			return run.names[name]
		})
		var step step
		if err := json.Unmarshal([]byte(named), &step); err != nil {
			run.Fatal(err)
		}
		run.step(step, named)
	}
}

func (run *run) step(step step, written string) {
	deadline := time.Now().Add(patience)
	for {
		answer, err := run.act(step)
		value, failed := plain(run.T, answer), shown(run.T, err)
		var gaveUp *client.GaveUpError
		if errors.As(err, &gaveUp) && gaveUp.Draft != nil {
			run.draft = gaveUp.Draft
		}
		var refused *client.RefusedError
		isUnknown := errors.As(err, &refused) && refused.Status == 404
		// What was published becomes visible, and handled, a moment later.
		isEarly := step.Do == "ask" && step.Error == nil && (isUnknown || !matches(step.Expect, value))
		if isEarly && time.Now().Before(deadline) {
			time.Sleep(poll)
			continue
		}
		said, _ := json.MarshalIndent(map[string]any{"step": json.RawMessage(written), "answer": value, "error": failed}, "", " ")
		switch {
		case step.Error != nil && (err == nil || !matches(step.Error, failed)):
			run.Fatal(string(said))
		case step.Error == nil && (err != nil || step.Expect != nil && !matches(step.Expect, value)):
			run.Fatal(string(said))
		}
		if step.SaveID != "" {
			id, _ := value.(map[string]any)
			if err != nil {
				id = failed
			}
			run.names[step.SaveID] = id["id"].(string)
		}
		if view, ok := answer.(*client.MessageView); step.NotEarly && (!ok || view.DeliverAt == nil ||
			view.Deliveries[0].Attempts[0].StartedAt.Before(*view.DeliverAt)) {
			run.Fatal(string(said))
		}
		return
	}
}

func (run *run) act(step step) (any, error) {
	ctx := context.Background()
	publisher := run.publisher(step.By)
	var which []client.Which
	if step.Topic != "" {
		which = append(which, client.Which{Topic: step.Topic})
	}
	switch step.Do {
	case "publish":
		message := messageOf(run.T, step.Message)
		switch {
		case step.AfterMS > 0:
			return publisher.PublishAfter(ctx, message, time.Duration(step.AfterMS)*time.Millisecond)
		case step.AtInMS > 0:
			return publisher.PublishAt(ctx, message, time.Now().Add(time.Duration(step.AtInMS)*time.Millisecond))
		case step.Broadcast:
			return publisher.PublishBroadcast(ctx, message)
		}
		return publisher.Publish(ctx, message)
	case "publish_again":
		return publisher.Publish(ctx, run.draft)
	case "publish_all":
		events := make([]client.Event, len(step.Messages))
		for at, message := range step.Messages {
			events[at] = messageOf(run.T, message)
		}
		results, err := publisher.PublishAll(ctx, events...)
		answers := make([]any, len(results))
		for at, result := range results {
			answers[at] = result.Receipt
			if result.Err != nil {
				answers[at] = map[string]any{"error": shown(run.T, result.Err)}
			}
		}
		return answers, err
	case "ask":
		return publisher.Ask(ctx, step.ID, which...)
	case "cancel":
		return publisher.Cancel(ctx, step.ID, which...)
	case "transaction":
		return nil, run.transaction(ctx, publisher, step)
	case "requests":
		return run.doors[step.Host].count.Load(), nil
	}
	run.Fatalf("the step %q is unknown", step.Do)
	return nil, nil
}

func (run *run) transaction(ctx context.Context, publisher *client.Publisher, step step) error {
	db, err := sql.Open(run.database.driver, run.database.address(run.hosts))
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, message := range step.Messages {
		if _, err := publisher.PublishIn(ctx, tx, run.database.dialect, messageOf(run.T, message)); err != nil {
			return err
		}
	}
	if step.End == "commit" {
		return tx.Commit()
	}
	return tx.Rollback()
}

func (run *run) publisher(by by) *client.Publisher {
	addresses := map[string]string{
		"": run.hosts.Main.URL, "away": run.hosts.Away.URL, "closed": "http://127.0.0.1:1",
		"lossy": run.doors["lossy"].url, "silent": run.doors["silent"].url,
	}
	token := run.hosts.Tokens["shop"]
	if by.Token != "" {
		token = run.hosts.Tokens[by.Token]
	}
	options := []client.Option{client.WithToken(token), client.WithSource(by.Source)}
	if by.Traceparent != "" {
		options = append(options, client.WithTraceparent(func(context.Context) string { return by.Traceparent }))
	}
	if by.TimeoutMS > 0 {
		options = append(options, client.WithTimeout(time.Duration(by.TimeoutMS)*time.Millisecond))
	}
	if by.TryTimeoutMS > 0 {
		options = append(options, client.WithTryTimeout(time.Duration(by.TryTimeoutMS)*time.Millisecond))
	}
	publisher, err := client.New(addresses[by.Host], options...)
	if err != nil {
		run.Fatal(err)
	}
	return publisher
}

// messageOf is the message that the table describes.
func messageOf(t *testing.T, wanted map[string]any) client.Message {
	t.Helper()
	text := func(name string) string { value, _ := wanted[name].(string); return value }
	decoded := func(value any) []byte {
		bytes, err := base64.StdEncoding.DecodeString(value.(string))
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	message := client.Message{
		ID: text("id"), Topic: text("topic"), Type: text("type"), Body: wanted["body"],
		ContentType: text("content_type"), Kind: client.Kind(text("kind")),
	}
	for name, value := range wanted {
		switch name {
		case "key":
			message.Key = []byte(value.(string))
		case "key_base64":
			message.Key = decoded(value)
		case "body_base64":
			message.Body = decoded(value)
		case "body_letters":
			message.Body = strings.Repeat("x", int(value.(float64)))
		case "body_text_bytes":
			message.Body = []byte(value.(string))
		case "delay_ms":
			message.Delay = time.Duration(value.(float64)) * time.Millisecond
		case "headers":
			for header, values := range value.(map[string]any) {
				many, isMany := values.([]any)
				if !isMany {
					many = []any{values}
				}
				for _, one := range many {
					bytes, isText := one.(string)
					if isText {
						message.Headers = append(message.Headers, client.Header{Name: header, Value: []byte(bytes)})
					} else {
						raw := decoded(one.(map[string]any)["base64"])
						message.Headers = append(message.Headers, client.Header{Name: header, Value: raw})
					}
				}
			}
		}
	}
	return message
}

// plain is a value as JSON has it.
func plain(t *testing.T, value any) (read any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(text, &read)
	}
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func shown(t *testing.T, err error) map[string]any {
	t.Helper()
	var invalid *client.InvalidError
	var refused *client.RefusedError
	var gaveUp *client.GaveUpError
	object := map[string]any{"can_retry": client.CanRetry(err)}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		object["kind"], object["id"] = "invalid", invalid.ID
	case errors.As(err, &refused):
		object["kind"], object["id"], object["status"] = "refused", refused.ID, float64(refused.Status)
		object["problem"] = plain(t, refused.Problem)
	case errors.As(err, &gaveUp):
		object["kind"] = "gave_up"
		if gaveUp.Draft != nil {
			object["id"] = gaveUp.Draft.ID()
		}
	default:
		t.Fatalf("%T: %v", err, err)
	}
	return object
}

// matches says whether a value has all that is expected of it.
func matches(expected, value any) bool {
	switch expected := expected.(type) {
	case map[string]any:
		object, ok := value.(map[string]any)
		for name, one := range expected {
			ok = ok && matches(one, object[name])
		}
		return ok
	case []any:
		list, ok := value.([]any)
		ok = ok && len(list) == len(expected)
		for at := 0; ok && at < len(expected); at++ {
			ok = matches(expected[at], list[at])
		}
		return ok
	}
	return reflect.DeepEqual(expected, value)
}
