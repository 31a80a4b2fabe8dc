package client

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Problem is an RFC 9457 problem document, as the host answers it.
type Problem struct {
	// Type names the kind of problem, for example
	// urn:courier:problem:id-is-taken.
	Type string `json:"type"`
	// Title is the kind of problem in words.
	Title string `json:"title"`
	// Status is that of HTTP.
	Status int `json:"status"`
	// Detail says what was wrong here, and what would be right.
	Detail string `json:"detail"`
	// ID is that of the message that it is about.
	ID string `json:"id"`
	// Document is all of it.
	Document json.RawMessage `json:"-"`
}

func (problem Problem) String() string {
	if problem.Detail == "" {
		return problem.Title
	}
	return problem.Title + ": " + problem.Detail
}

// readProblem makes out a document, or where it is none, what its status says.
func readProblem(document []byte, status int) Problem {
	var problem Problem
	if json.Unmarshal(document, &problem) != nil || problem.Title == "" {
		// Something between us and the host answered.
		return Problem{Title: fmt.Sprintf("answered %d", status), Status: status}
	}
	problem.Document = document
	return problem
}

// InvalidError means that the message, or what was said of it, is wrong:
// correct it. Nothing was sent.
type InvalidError struct {
	// ID is the message's, if it has one.
	ID string
	// Why says what is wrong.
	Why string
}

func (err *InvalidError) Error() string {
	return "the message is not valid: " + err.Why
}

// RefusedError means that the host refuses it, as it would each time: correct
// the message, its id, or the token.
type RefusedError struct {
	// Status is that of HTTP; 409 means that the id is taken by another message.
	Status int
	// Problem is what the host answered.
	Problem Problem
	// ID is the message's, if the answer is about one message.
	ID string
}

func (err *RefusedError) Error() string {
	return fmt.Sprintf("the host refuses it (%d): %s", err.Status, err.Problem)
}

// GaveUpError means that no host answered for certain within the publisher's
// time. A message may have been taken, since an answer can be lost: publish
// Draft again, which cannot double it.
type GaveUpError struct {
	// Draft is the message, with its id; nil when one was asked for or cancelled.
	Draft *Draft
	// Tries is how often it was tried.
	Tries int
	// Cause is the last reason; that of the context, if that ended first.
	Cause error
}

func (err *GaveUpError) Error() string {
	of := ""
	if err.Draft != nil {
		of = " on message " + err.Draft.ID()
	}
	return fmt.Sprintf("gave up%s after %d tries: %v", of, err.Tries, err.Cause)
}

// Unwrap is the last reason.
func (err *GaveUpError) Unwrap() error {
	return err.Cause
}

// CanRetry says whether the same message may be taken later, without a change.
func CanRetry(err error) bool {
	var gaveUp *GaveUpError
	return errors.As(err, &gaveUp)
}
