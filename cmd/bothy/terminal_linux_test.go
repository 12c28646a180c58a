package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns both ends of a new pseudo-terminal.
func terminal(t *testing.T) (person, tty *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals:", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals:", err)
	}
	t.Cleanup(func() { tty.Close() })
	return person, tty
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	termios, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return termios.Lflag&unix.ECHO != 0
}

// answers waits for each question before it is answered, and notes whether the terminal would show what is typed then.
type answers struct {
	bytes.Buffer
	person, tty *os.File
	typed       []string
	shown       bool
	t           *testing.T
}

func (a *answers) Write(b []byte) (int, error) {
	if strings.HasSuffix(string(b), ": ") && len(a.typed) > 0 {
		a.shown = a.shown || echoes(a.t, a.tty)
		if _, err := io.WriteString(a.person, a.typed[0]+"\n"); err != nil {
			return 0, err
		}
		a.typed = a.typed[1:]
	}
	return a.Buffer.Write(b)
}

func TestPrompt(t *testing.T) {
	for _, tt := range []struct {
		typed          []string
		password, want string
	}{
		{[]string{"hunter2", "hunter2"}, "hunter2", ""},
		{[]string{"hunter2", "hunter3"}, "", "the two passwords differ"},
		{[]string{"", ""}, "", "no password was typed"},
	} {
		person, tty := terminal(t)
		a := &answers{person: person, tty: tty, typed: tt.typed, t: t}
		password, made, err := passwordFlags{}.read(t.Context(), "keeper", stdio{in: tty, err: a})
		if password != tt.password || made || fmt.Sprint(err) != tt.want && !(err == nil && tt.want == "") {
			t.Errorf("%q: %q, %v, %v", tt.typed, password, made, err)
		}
		if a.shown || !echoes(t, tty) {
			t.Errorf("%q: shown while typed %v, shown afterwards %v", tt.typed, a.shown, echoes(t, tty))
		}
		if got := a.String(); got != "Password for keeper: \nAgain: \n" {
			t.Errorf("asked %q", got)
		}
	}
}

// Ctrl-C at the question leaves a terminal that shows what is typed.
func TestPromptInterrupted(t *testing.T) {
	_, tty := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := passwordFlags{}.read(ctx, "keeper", stdio{in: tty, err: io.Discard})
	if !errors.Is(err, context.Canceled) || !echoes(t, tty) {
		t.Errorf("%v, shown afterwards %v", err, echoes(t, tty))
	}
}
