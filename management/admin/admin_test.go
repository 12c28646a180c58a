package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

type ask struct {
	ID    string       `json:"id"`
	Lanes []string     `json:"lane"`
	Limit int          `json:"limit"`
	All   bool         `json:"all"`
	From  []netip.Addr `json:"from,omitempty"`
	To    netip.Addr   `json:"to,omitzero"`
}

type tick struct {
	N int `json:"n"`
}

// socket is a path short enough for a socket, unlike t.TempDir's under some tests' names.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "admin.sock")
}

// start runs s until the test ends and returns a client.
func start(t *testing.T, s *Server) *Client {
	t.Helper()
	path := socket(t)
	ln, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	c := Dial(path)
	t.Cleanup(func() {
		cancel()
		c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is still there")
		}
	})
	return c
}

func routes() *Server {
	s := &Server{Version: "v1"}
	echo := func(_ context.Context, req ask) (ask, error) { return req, nil }
	Handle(s, "GET", "/v1/queue", echo)
	Handle(s, "GET", "/v1/queue/{id}", echo)
	Handle(s, "POST", "/v1/queue/retry", echo)
	Handle(s, "POST", "/v1/refuse", func(context.Context, struct{}) (struct{}, error) {
		return struct{}{}, &Error{Status: http.StatusConflict, Text: "held", Hint: "release it"}
	})
	Handle(s, "POST", "/v1/break", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, errors.New("broken") })
	HandleStream(s, "POST", "/v1/fetch", func(_ context.Context, req ask, send func(tick) error) error {
		for i := range req.Limit {
			if err := send(tick{i}); err != nil {
				return err
			}
		}
		if req.ID == "fail" {
			return &Error{Status: http.StatusBadGateway, Text: "line cut"}
		}
		return nil
	})
	return s
}

func TestCall(t *testing.T) {
	c := start(t, routes())
	for _, tt := range []struct {
		method, path string
		req, want    ask
	}{
		{"GET", "/v1/queue", ask{Lanes: []string{"odmr/a", "mx/b c"}, Limit: 5, All: true}, ask{Lanes: []string{"odmr/a", "mx/b c"}, Limit: 5, All: true}},
		{"GET", "/v1/queue", ask{From: []netip.Addr{netip.IPv6Loopback()}, To: netip.IPv6Loopback()}, ask{From: []netip.Addr{netip.IPv6Loopback()}, To: netip.IPv6Loopback()}},
		{"GET", "/v1/queue/7f", ask{}, ask{ID: "7f"}},
		{"GET", "/v1/queue/" + url.PathEscape("a/b"), ask{}, ask{ID: "a/b"}},
		{"POST", "/v1/queue/retry", ask{ID: "x", All: true}, ask{ID: "x", All: true}},
	} {
		var got ask
		if err := c.Call(t.Context(), tt.method, tt.path, tt.req, &got); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s %s: %+v, %v", tt.method, tt.path, got, err)
		}
	}
	id, err := c.Identity(t.Context())
	if err != nil || id.Program != "bothy" || id.Version != "v1" || id.PID != os.Getpid() || id.Started.IsZero() {
		t.Errorf("identity %+v, %v", id, err)
	}
}

func TestRefusals(t *testing.T) {
	c := start(t, routes())
	for _, tt := range []struct {
		method, path string
		req          any
		status       int
		text         string
	}{
		{"POST", "/v1/refuse", nil, 409, "held; release it"},
		{"POST", "/v1/break", nil, 500, "broken"},
		{"POST", "/v1/none", nil, 404, "no such call: POST /v1/none"},
		{"POST", "/v1/queue/retry", map[string]any{"id": "x", "every": 1}, 400, `malformed request: json: unknown field "every"`},
		{"POST", "/v1/queue/retry", "x", 400, "malformed request: json: cannot unmarshal string into Go value of type admin.ask"},
		{"POST", "/v1/queue/retry", ask{ID: strings.Repeat("x", maxBody)}, 413, "the request is larger than 1048576 octets"},
		{"GET", "/v1/queue?limit=many", nil, 400, `parameter "limit": not a whole number`},
		{"GET", "/v1/queue?color=red", nil, 400, `unknown parameter "color"`},
		{"GET", "/v1/queue?limit=1&limit=2", nil, 400, `parameter "limit": given twice`},
		{"GET", "/v1/queue?to=nowhere", nil, 400, `parameter "to": ParseAddr("nowhere"): unable to parse IP`},
		{"GET", "/v1/queue?all=perhaps", nil, 400, `parameter "all": neither true nor false`},
	} {
		err := c.Call(t.Context(), tt.method, tt.path, tt.req, nil)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Status != tt.status || e.Error() != tt.text {
			t.Errorf("%s %s: %v (%#v)", tt.method, tt.path, err, e)
		}
	}
}

func TestStream(t *testing.T) {
	c := start(t, routes())
	var got []tick
	collect := func(raw json.RawMessage) error {
		var e tick
		err := json.Unmarshal(raw, &e)
		got = append(got, e)
		return err
	}
	if err := c.Stream(t.Context(), "POST", "/v1/fetch", ask{Limit: 3}, collect); err != nil || len(got) != 3 || got[2].N != 2 {
		t.Errorf("%v, %v", got, err)
	}
	got = nil
	err := c.Stream(t.Context(), "POST", "/v1/fetch", ask{Limit: 2, ID: "fail"}, collect)
	if e, ok := errors.AsType[*Error](err); !ok || e.Text != "line cut" || e.Status != 502 || len(got) != 2 {
		t.Errorf("refused in the middle: %v after %v", err, got)
	}
	err = c.Stream(t.Context(), "POST", "/v1/fetch", ask{ID: "fail"}, collect)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 502 {
		t.Errorf("refused at once: %v", err)
	}
	if err := c.Stream(t.Context(), "POST", "/v1/fetch", ask{}, collect); err != nil {
		t.Errorf("without events: %v", err)
	}
	stop := errors.New("enough")
	if err := c.Stream(t.Context(), "POST", "/v1/fetch", ask{Limit: 9}, func(json.RawMessage) error { return stop }); err != stop {
		t.Errorf("stopped by the caller: %v", err)
	}
}

// An event is with the caller before the next one exists, and the end of the caller's context reaches the route.
func TestStreamLive(t *testing.T) {
	s := &Server{}
	seen, ended := make(chan bool), make(chan error, 1)
	HandleStream(s, "POST", "/live", func(ctx context.Context, _ struct{}, send func(tick) error) error {
		if err := send(tick{1}); err != nil {
			return err
		}
		<-seen
		<-ctx.Done()
		ended <- send(tick{2})
		return ctx.Err()
	})
	c := start(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Stream(ctx, "POST", "/live", nil, func(json.RawMessage) error {
		seen <- true
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("caller: %v", err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("an event was sent to nobody")
		}
	case <-time.After(5 * time.Second):
		t.Error("the route did not hear that the caller is gone")
	}
}

// A server that goes away in the middle of a stream is not the end of the stream.
func TestStreamCut(t *testing.T) {
	path := socket(t)
	ln, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"event\":{}}\n")
		conn.Close()
	}()
	err = Dial(path).Stream(t.Context(), "POST", "/x", nil, func(json.RawMessage) error { return nil })
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// The waits for a request do not count against the time of an answer.
func TestLongStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		HandleStream(s, "POST", "/long", func(ctx context.Context, _ struct{}, send func(tick) error) error {
			for i := range 10 {
				select {
				case <-time.After(time.Minute):
				case <-ctx.Done():
					return ctx.Err()
				}
				if err := send(tick{i}); err != nil {
					return err
				}
			}
			return nil
		})
		web, ln := s.web(t.Context()), &pipes{conns: make(chan net.Conn)}
		go web.Serve(ln)
		defer web.Close()
		c := &Client{}
		c.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			ln.conns <- server
			return client, nil
		}}
		n := 0
		if err := c.Stream(t.Context(), "POST", "/long", nil, func(json.RawMessage) error { n++; return nil }); err != nil || n != 10 {
			t.Errorf("%d events, %v", n, err)
		}
	})
}

// pipes is a listener of connections in memory.
type pipes struct {
	conns chan net.Conn
	done  bool
}

func (p *pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p *pipes) Close() error {
	if !p.done {
		p.done = true
		close(p.conns)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

func TestStop(t *testing.T) {
	path := socket(t)
	s := &Server{Log: slog.New(slog.DiscardHandler)}
	began, returned := make(chan bool), false
	Handle(s, "POST", "/wait", func(ctx context.Context, _ struct{}) (struct{}, error) {
		close(began)
		<-ctx.Done()
		returned = true
		return struct{}{}, &Error{Status: http.StatusServiceUnavailable, Text: "stopping"}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done, called := make(chan error, 1), make(chan error, 1)
	ln, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- s.Serve(ctx, ln) }()
	c := Dial(path)
	go func() { called <- c.Call(t.Context(), "POST", "/wait", nil, nil) }()
	<-began
	cancel()
	if e, ok := errors.AsType[*Error](<-called); !ok || e.Text != "stopping" {
		t.Errorf("call under way: %v", e)
	}
	if err := <-done; err != nil || !returned {
		t.Errorf("run: %v", err)
	}
	if err := c.Call(t.Context(), "GET", "/", nil, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the stop: %v", err)
	}
}

func TestListen(t *testing.T) {
	path := socket(t)
	first, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if first.Addr().String() != path {
		t.Errorf("address %s", first.Addr())
	}
	if _, err := Listen(path, 0o600); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	first.(*listener).UnixListener.Close() // as a crash would: the file stays
	if _, err := os.Lstat(path); err != nil {
		t.Fatal("no stale file to test with")
	}
	if err := Dial(path).Call(t.Context(), "GET", "/", nil, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stale socket: %v", err)
	}
	second, err := Listen(path, 0o600)
	if err != nil {
		t.Fatalf("stale socket not replaced: %v", err)
	}
	second.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, 0o600); err == nil {
		t.Error("a file was replaced")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file in the way: %q, %v", b, err)
	}
	if _, err := Listen("/"+strings.Repeat("x", 104), 0o600); err == nil || !strings.Contains(err.Error(), "choose a shorter data directory") {
		t.Errorf("long path: %v", err)
	}
}

func TestPeer(t *testing.T) {
	path := socket(t)
	ln, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := Peer{os.Geteuid(), os.Getegid(), os.Getpid()}
	if p, err := PeerOf(conn); !errors.Is(err, errors.ErrUnsupported) && (err != nil || p != want) {
		t.Errorf("%+v, %v", p, err)
	}
	pipe, _ := net.Pipe()
	if _, err := PeerOf(pipe); err == nil {
		t.Error("a pipe has a peer")
	}
}

func TestWildcards(t *testing.T) {
	for pattern, want := range map[string][]string{"/a": nil, "/a/{id}": {"id"}, "/{a}/b/{c...}": {"a", "c"}, "/{$}": nil} {
		if got := wildcards(pattern); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q", pattern, got)
		}
	}
}

func TestUnreachable(t *testing.T) {
	c := Dial("/s")
	for want, err := range map[error]error{ErrNotRunning: syscall.ENOENT, ErrForbidden: syscall.EACCES} {
		if got := c.unreachable(t.Context(), err); !errors.Is(got, want) {
			t.Errorf("%v: %v", err, got)
		}
	}
}
