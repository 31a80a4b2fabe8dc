package conformance

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// door stands before a host and misbehaves as networks do.
type door struct {
	url   string
	count atomic.Int64
}

// verdict says what becomes of a host's answer.
type verdict int

const (
	passed verdict = iota
	lost
	held
)

func newDoor(t *testing.T, target string, of func(number int64) verdict) *door {
	t.Helper()
	door := &door{}
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, asked *http.Request) {
		number := door.count.Add(1)
		onward, err := http.NewRequest(asked.Method, target+asked.URL.String(), asked.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		onward.Header = asked.Header.Clone()
		answer, err := http.DefaultClient.Do(onward)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer answer.Body.Close()
		switch of(number) {
		case lost:
			panic(http.ErrAbortHandler)
		case held:
			<-ended
			panic(http.ErrAbortHandler)
		}
		maps.Copy(writer.Header(), answer.Header)
		writer.WriteHeader(answer.StatusCode)
		io.Copy(writer, answer.Body)
	}))
	door.url = server.URL
	t.Cleanup(func() {
		close(ended)
		server.CloseClientConnections()
		server.Close()
	})
	return door
}

// lossy loses the first answer: the connection ends before it.
func lossy(t *testing.T, target string) *door {
	return newDoor(t, target, func(number int64) verdict {
		if number == 1 {
			return lost
		}
		return passed
	})
}

// silent passes requests on and no answer back.
func silent(t *testing.T, target string) *door {
	return newDoor(t, target, func(int64) verdict { return held })
}
