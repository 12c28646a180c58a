package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// The bounds of a program.
const (
	timeout   = 30 * time.Second // then it is killed, with its children
	maxOutput = 4096             // octets of what it prints that are logged
)

// Event is what a program is told.
type Event struct {
	Protocol  string `json:"protocol"`  // "dhcp4" or "dhcp6"
	Interface string `json:"interface"` // where it was learnt
	State     string `json:"state"`     // of the client
	Binding   any    `json:"binding"`   // what it has now
}

// Hook is one program.
type Hook struct {
	program string
	log     *slog.Logger
	ended   chan struct{}

	mu     sync.Mutex
	next   []byte // nil: nothing is to be told
	closed bool
	wake   chan struct{}
}

// New returns a Hook that waits for events; without a program it does nothing. Close ends it.
func New(program string, log *slog.Logger) *Hook {
	h := &Hook{program: program, log: log, ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	go h.run()
	return h
}

// Tell has the program run with an event. It never waits.
func (h *Hook) Tell(e Event) {
	b, err := json.Marshal(e)
	if err != nil {
		h.log.Error("hook not run", "program", h.program, "error", err)
		return
	}
	h.mu.Lock()
	h.next = append(b, '\n')
	h.mu.Unlock()
	h.stir()
}

// Close waits until the program has been told everything.
func (h *Hook) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stir()
	<-h.ended
}

func (h *Hook) stir() {
	select {
	case h.wake <- struct{}{}:
	default: // it is awake
	}
}

func (h *Hook) run() {
	defer close(h.ended)
	for range h.wake {
		h.mu.Lock()
		input, closed := h.next, h.closed
		h.next = nil
		h.mu.Unlock()
		if input != nil && h.program != "" {
			h.call(input)
		}
		if closed {
			return
		}
	}
}

func (h *Hook) call(input []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	out := &limited{}
	cmd := exec.CommandContext(ctx, h.program)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, out
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		h.log.Warn("hook failed", "program", h.program, "error", err, "output", string(out.b))
	}
}

// limited keeps the beginning of what is written.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), maxOutput-len(l.b))]...)
	return len(p), nil
}
