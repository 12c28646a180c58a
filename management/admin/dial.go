package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// ErrNotRunning says that nobody listens at the socket; ErrForbidden that the socket belongs to another user.
var (
	ErrNotRunning = errors.New("the server is not running")
	ErrForbidden  = errors.New("the server belongs to another user")
)

// Client calls a Server. It may be used by several goroutines at once.
type Client struct {
	path string
	http http.Client
}

// Dial returns a client for the socket at path. It connects when the first call is made: errors are the calls'.
func Dial(path string) *Client {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		MaxIdleConns:    1,
		IdleConnTimeout: idleTime / 2, // before the server does
	}
	return c
}

// Close ends the connections that wait for another call.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Identity asks who answers.
func (c *Client) Identity(ctx context.Context) (Identity, error) {
	var id Identity
	return id, c.Call(ctx, http.MethodGet, IdentityPath, nil, &id)
}

// Call sends req, as the query of a GET or DELETE and as a JSON body otherwise, and reads the reply into resp, which may be nil. A refusal
// is an *Error; without a server the error wraps ErrNotRunning.
func (c *Client) Call(ctx context.Context, method, path string, req, resp any) error {
	r, err := c.send(ctx, method, path, req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, maxReply))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp == nil {
		return nil
	}
	if err := json.Unmarshal(b, resp); err != nil {
		return fmt.Errorf("%s %s: malformed reply: %w", method, path, err)
	}
	return nil
}

// Stream sends req as Call does and passes each event to on as it comes, until the server has no more, on returns an error, or ctx ends.
// When the server ends the stream with a refusal the error is an *Error; when it goes away in the middle, io.ErrUnexpectedEOF is wrapped.
func (c *Client) Stream(ctx context.Context, method, path string, req any, on func(event json.RawMessage) error) error {
	r, err := c.send(ctx, method, path, req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("%s %s: malformed line: %w", method, path, err)
		}
		if l.Error != nil {
			return l.Error
		}
		if err := on(l.Event); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, req any) (*http.Response, error) {
	target, body := "http://bothy"+path, []byte(nil)
	switch method {
	case http.MethodGet, http.MethodDelete:
		query, err := encodeQuery(req)
		if err != nil {
			return nil, err
		}
		if len(query) > 0 {
			target += "?" + query.Encode()
		}
	default:
		var err error
		if body, err = json.Marshal(req); err != nil {
			return nil, err
		}
	}
	return c.do(ctx, method, target, bytes.NewReader(body))
}

// do makes one request. What is not a success is an *Error.
func (c *Client) do(ctx context.Context, method, target string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &Error{}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if json.Unmarshal(b, e) != nil || e.Text == "" {
		e.Text = strings.TrimSpace("the server answered " + resp.Status)
	}
	e.Status = resp.StatusCode
	return nil, e
}

// unreachable says in the operator's words why no reply came.
func (c *Client) unreachable(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nobody listens at %s)", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (no permission to open %s)", ErrForbidden, c.path)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the server at %s closed the connection: it is stopping, or belongs to another user", c.path)
	}
	return err
}
