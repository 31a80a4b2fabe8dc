// Package client publishes messages through Courier, and asks what became of
// them.
//
// A [Publisher] is what a service holds; a [Message] is what it sends, a
// [Receipt] what it is told, and [InvalidError], [RefusedError] and
// [GaveUpError] say what it can do when that fails.
package client
