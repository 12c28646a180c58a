package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Server answers at one socket. Its fields and routes are set before Serve and not changed after.
type Server struct {
	Version string // of the program, for Identity
	Log     *slog.Logger

	mux  http.ServeMux
	once sync.Once
}

// Handle adds a route that answers once: pattern is as for http.ServeMux, without the method ("/v1/queue/{id}"). Req is read from the
// body of a POST, PUT or PATCH, and else from the query; wildcards of the path go into the fields of the same JSON name in any
// case. What f returns becomes the reply; an error that is an *Error keeps its status, any other is a 500. f has a minute.
func Handle[Req, Resp any](s *Server, method, pattern string, f func(ctx context.Context, req Req) (Resp, error)) {
	s.mux.HandleFunc(method+" "+pattern, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := decode(w, r, pattern, &req); err != nil {
			s.refuse(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), callTime)
		defer cancel()
		resp, err := f(ctx, req)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.reply(w, r, http.StatusOK, resp)
	})
}

// HandleHTTP adds a route that answers in its own way.
func (s *Server) HandleHTTP(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// HandleStream adds a route that reports while it works: f calls send for each event, which goes out at once as a line
// {"event": ...}; an error of f after the first event becomes a last line {"error": ...}. ctx ends when the caller goes away or the
// server stops, and then send returns an error.
func HandleStream[Req, Event any](s *Server, method, pattern string, f func(ctx context.Context, req Req, send func(Event) error) error) {
	s.mux.HandleFunc(method+" "+pattern, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := decode(w, r, pattern, &req); err != nil {
			s.refuse(w, r, err)
			return
		}
		out := &stream{w: w, control: http.NewResponseController(w)}
		err := f(r.Context(), req, func(e Event) error {
			if err := context.Cause(r.Context()); err != nil {
				return err
			}
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			return out.send(line{Event: b})
		})
		switch {
		case err == nil:
			out.begin() // a stream without events is one all the same
		case !out.begun:
			s.refuse(w, r, err)
		default:
			_ = out.send(line{Error: failure(err)}) // the caller is gone when this fails
		}
	})
}

func decode(w http.ResponseWriter, r *http.Request, pattern string, req any) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	query := r.URL.Query()
	for _, name := range wildcards(pattern) {
		query.Set(name, r.PathValue(name))
	}
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		if err := decodeBody(r, req); err != nil {
			return err
		}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it was for the request; passing now it would end the call
	return decodeQuery(query, req)
}

// stream writes lines of JSON.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (s *stream) begin() {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/jsonl")
		s.w.WriteHeader(http.StatusOK)
	}
}

func (s *stream) send(l line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	s.begin()
	_ = s.control.SetWriteDeadline(time.Now().Add(sendTime))
	if _, err := s.w.Write(append(b, '\n')); err != nil {
		return err
	}
	return s.control.Flush()
}

func (s *Server) reply(w http.ResponseWriter, r *http.Request, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.log().Error("admin reply not encoded", "path", r.URL.Path, "err", err)
		http.Error(w, `{"error":"the reply could not be encoded"}`, http.StatusInternalServerError)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(callTime))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the caller is gone when this fails
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := failure(err)
	if e.Status >= http.StatusInternalServerError {
		s.log().Warn("admin call failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	s.reply(w, r, e.Status, e)
}

func (s *Server) log() *slog.Logger { return cmp.Or(s.Log, slog.New(slog.DiscardHandler)) }

// Serve answers on a listener made by Listen until ctx ends, and closes it; calls under way then see their context end and have 5 seconds to
// return.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	web := s.web(ctx)
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(newOwned(ln, s.log())) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := web.Shutdown(stopping); err != nil {
		_ = web.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) web(ctx context.Context) *http.Server {
	started := time.Now()
	s.once.Do(func() {
		Handle(s, http.MethodGet, IdentityPath, func(context.Context, struct{}) (Identity, error) {
			return Identity{Program: "bothy", Version: s.Version, PID: os.Getpid(), Started: started}, nil
		})
		s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			s.refuse(w, r, &Error{Status: http.StatusNotFound, Text: "no such call: " + r.Method + " " + r.URL.Path})
		})
	})
	return &http.Server{
		Handler:           &s.mux,
		ReadTimeout:       readTime,
		ReadHeaderTimeout: readTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log().Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
}
