package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	// defaultTimeout is how long a message is tried in all, unless told otherwise.
	defaultTimeout = 15 * time.Second
	// defaultTryTimeout is how long one try may take: a host answers within a
	// second, whatever Kafka does, and within five when its store is slow.
	defaultTryTimeout = 8 * time.Second
	// pauseFirst and pauseLongest bound the pause between tries.
	pauseFirst   = 50 * time.Millisecond
	pauseLongest = 2 * time.Second
	// retryAfterLimit is up to where a wait that a host asks for is believed.
	retryAfterLimit = time.Minute
	// answerLimit is where an answer is not read on: no host's is longer.
	answerLimit = 64 << 20
)

// errNoHost means that something else than a host answered.
var errNoHost = errors.New("the answer is not a host's")

// tries are those of one call.
type tries struct {
	publisher *Publisher
	draft     *Draft
	deadline  time.Time
	pause     time.Duration
	least     time.Duration
	count     int
}

func (publisher *Publisher) tries(draft *Draft) *tries {
	return &tries{publisher: publisher, draft: draft, deadline: time.Now().Add(publisher.timeout), pause: pauseFirst}
}

// ask tries once, no longer than what is left of the time. The error says why
// there is no answer that is final.
func (tries *tries) ask(ctx context.Context, method, url string, body []byte, trace string) (int, []byte, error) {
	tries.count++
	tries.least = 0
	limit := min(tries.publisher.tryTimeout, max(time.Until(tries.deadline), pauseFirst))
	within, end := context.WithTimeoutCause(ctx, limit, errors.New("no answer in time"))
	defer end()
	request, err := http.NewRequestWithContext(within, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if tries.publisher.token != "" {
		request.Header.Set("Authorization", "Bearer "+tries.publisher.token)
	}
	if trace != "" {
		request.Header.Set("Traceparent", trace)
	}
	answer, err := tries.publisher.http.Do(request)
	if err != nil {
		return 0, nil, reason(within, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, answerLimit+1))
	if err != nil {
		return 0, nil, reason(within, err)
	}
	if len(text) > answerLimit {
		return 0, nil, fmt.Errorf("the answer has more than %d bytes", answerLimit)
	}
	if passes(answer.StatusCode) {
		if seconds, err := strconv.ParseFloat(answer.Header.Get("Retry-After"), 64); err == nil && seconds > 0 {
			tries.least = time.Duration(min(seconds, retryAfterLimit.Seconds()) * float64(time.Second))
		}
		return 0, nil, errors.New(readProblem(text, answer.StatusCode).String())
	}
	return answer.StatusCode, text, nil
}

// reason is the cause of a context that ended, which says more than that it did.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// rest waits before the next try, a little at random so that senders do not
// come back all at once; the error means that the time is up.
func (tries *tries) rest(ctx context.Context, why error) error {
	gaveUp := &GaveUpError{Draft: tries.draft, Tries: tries.count, Cause: why}
	if ctx.Err() != nil {
		gaveUp.Cause = context.Cause(ctx)
		return gaveUp
	}
	wait := max(time.Duration(float64(tries.pause)*(0.5+rand.Float64()/2)), tries.least)
	tries.pause = min(tries.pause*2, pauseLongest)
	if !time.Now().Add(wait).Before(tries.deadline) {
		return gaveUp
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		gaveUp.Cause = context.Cause(ctx)
		return gaveUp
	}
}

// passes says whether what this status says may pass by itself.
func passes(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented:
		return false
	}
	return status >= 500
}
