package mailbox

import (
	"errors"
	"time"

	"bothy/application/queue"
	"bothy/application/smtp"
)

// The schedule of deliveries that failed for now: a full disk or mailbox is mended by somebody near, so that trying again is cheap.
const (
	firstRetry = 30 * time.Second
	lastRetry  = 15 * time.Minute
)

// RetryAfter returns how long a message waits after failed attempts (a count, 1 or more) before the next one: 30 seconds, doubled
// up to 15 minutes. RFC 5321 §4.5.4.1 asks for 30 minutes towards other hosts; this is our own disk.
func RetryAfter(attempts int) time.Duration {
	wait := firstRetry
	for ; attempts > 1 && wait < lastRetry; attempts-- {
		wait *= 2
	}
	return min(wait, lastRetry)
}

var errUnknown = smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such mailbox"} // RFC 3463 §3.2

// errBinary is why a binary message that no encoding can make lines of is returned (RFC 3463 §3.7: conversion required but not supported).
var errBinary = smtp.Reply{Code: 554, Enhanced: [3]int{5, 6, 3}, Text: "binary message that cannot be encoded for the mailbox"}

// errExpired is for a message whose sender wants it back rather than delivered so late (RFC 2852 §4.1.3).
var errExpired = smtp.Reply{Code: 554, Enhanced: [3]int{5, 4, 7}, Text: "delivery time expired"}

// errNobodyYet is why mail for the postmaster waits at a server that has just been set up.
var errNobodyYet = smtp.Reply{Code: 450, Enhanced: [3]int{4, 1, 1}, Text: "there is no account yet that could get the postmaster's mail"}

// verdict is what becomes of a recipient, given what became of the message in each of its accounts and the tries made before.
// A recipient is done when all of its accounts have the message; those that have it already do not mind getting it again.
func verdict(outcomes []error, attempts int, now time.Time) queue.Verdict {
	if len(outcomes) == 0 { // there was an account when the message was accepted
		return queue.Verdict{Failed: true, Reply: errUnknown}
	}
	v := queue.Verdict{Done: true}
	for _, err := range outcomes {
		if err == nil {
			continue
		}
		reply, ok := errors.AsType[smtp.Reply](err)
		if !ok {
			reply = errMailbox
		}
		if reply.Permanent() {
			return queue.Verdict{Failed: true, Reply: reply}
		}
		v = queue.Verdict{Reply: reply, Retry: now.Add(RetryAfter(attempts + 1))}
	}
	return v
}
