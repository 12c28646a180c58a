package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// What is too large for JSON goes as it is: down as the body of a reply, whose end comes in a trailer (RFC 9110 §6.5), or up as the body
// of a request.

// patience is how long the caller may take for one piece of either: it may be at the end of a thin link.
const patience = 10 * time.Minute

// endTrailer says how a download ended, as a line: without it, it did not.
const endTrailer = "Bothy-End"

// HandleDownload adds a route whose reply is whatever f writes, and then what it returns. An error of f is a refusal before the first octet,
// and else takes the place of the end.
func HandleDownload[Req, Resp any](s *Server, pattern string, f func(ctx context.Context, req Req, to io.Writer) (Resp, error)) {
	s.mux.HandleFunc(http.MethodPost+" "+pattern, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := decode(w, r, pattern, &req); err != nil {
			s.refuse(w, r, err)
			return
		}
		out := &download{w: w, control: http.NewResponseController(w)}
		resp, err := f(r.Context(), req, out)
		if err != nil && !out.begun {
			s.refuse(w, r, err)
			return
		}
		var end line
		if err != nil {
			end.Error = failure(err)
		} else if end.Event, err = json.Marshal(resp); err != nil {
			end.Error = failure(err)
		}
		b, err := json.Marshal(end)
		if err == nil {
			w.Header().Set(http.TrailerPrefix+endTrailer, string(b))
		}
	})
}

// download writes the body of a reply.
type download struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (d *download) Write(p []byte) (int, error) {
	if !d.begun {
		d.begun = true
		d.w.Header().Set("Content-Type", "application/octet-stream")
	}
	_ = d.control.SetWriteDeadline(time.Now().Add(patience))
	return d.w.Write(p)
}

// HandleUpload adds a route that reads the body of a request as it comes, and answers once.
func HandleUpload[Resp any](s *Server, pattern string, f func(ctx context.Context, from io.Reader) (Resp, error)) {
	s.mux.HandleFunc(http.MethodPost+" "+pattern, func(w http.ResponseWriter, r *http.Request) {
		resp, err := f(r.Context(), &upload{r.Body, http.NewResponseController(w)})
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.reply(w, r, http.StatusOK, resp)
	})
}

// upload reads the body of a request.
type upload struct {
	body    io.Reader
	control *http.ResponseController
}

func (u *upload) Read(p []byte) (int, error) {
	_ = u.control.SetReadDeadline(time.Now().Add(patience))
	return u.body.Read(p)
}

// Download calls a route of HandleDownload, copies what it sends, and reads how it ended into resp.
func (c *Client) Download(ctx context.Context, path string, req any, to io.Writer, resp any) error {
	r, err := c.send(ctx, http.MethodPost, path, req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if _, err := io.Copy(to, r.Body); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var end line
	if err := json.Unmarshal([]byte(r.Trailer.Get(endTrailer)), &end); err != nil {
		return fmt.Errorf("%s: %w", path, io.ErrUnexpectedEOF)
	}
	if end.Error != nil {
		return end.Error
	}
	return json.Unmarshal(end.Event, resp)
}

// Upload calls a route of HandleUpload.
func (c *Client) Upload(ctx context.Context, path string, from io.Reader, resp any) error {
	r, err := c.do(ctx, http.MethodPost, "http://bothy"+path, from)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	return json.NewDecoder(io.LimitReader(r.Body, maxReply)).Decode(resp)
}
