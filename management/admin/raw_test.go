package admin

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

type amount struct{ N int }

func rawRoutes() *Server {
	s := &Server{}
	HandleDownload(s, "/down", func(_ context.Context, req ask, to io.Writer) (amount, error) {
		for range req.Limit {
			if _, err := io.WriteString(to, strings.Repeat("x", 1000)); err != nil {
				return amount{}, err
			}
		}
		if req.ID == "fail" {
			return amount{}, &Error{Status: 502, Text: "disk gone"}
		}
		return amount{req.Limit}, nil
	})
	HandleUpload(s, "/up", func(_ context.Context, from io.Reader) (amount, error) {
		n, err := io.Copy(io.Discard, from)
		if n > 1<<20 {
			return amount{}, &Error{Status: 413, Text: "too much"}
		}
		return amount{int(n)}, err
	})
	return s
}

func TestDownload(t *testing.T) {
	c := start(t, rawRoutes())
	for _, tt := range []struct {
		req    ask
		octets int
		refuse string
	}{
		{ask{Limit: 3}, 3000, ""},
		{ask{Limit: 300}, 300_000, ""},
		{ask{}, 0, ""},
		{ask{ID: "fail"}, 0, "disk gone"},
		{ask{ID: "fail", Limit: 300}, 300_000, "disk gone"}, // and nobody takes what came for the whole
	} {
		var got strings.Builder
		var end amount
		err := c.Download(t.Context(), "/down", tt.req, &got, &end)
		e, refused := errors.AsType[*Error](err)
		switch {
		case got.Len() != tt.octets, refused != (tt.refuse != ""), refused && e.Text != tt.refuse, !refused && (err != nil || end.N != tt.req.Limit):
			t.Errorf("%+v: %d octets, %+v, %v", tt.req, got.Len(), end, err)
		}
	}
}

func TestUpload(t *testing.T) {
	c := start(t, rawRoutes())
	var got amount
	if err := c.Upload(t.Context(), "/up", strings.NewReader(strings.Repeat("x", 1_000_000)), &got); err != nil || got.N != 1_000_000 {
		t.Errorf("%+v, %v", got, err)
	}
	err := c.Upload(t.Context(), "/up", strings.NewReader(strings.Repeat("x", 2_000_000)), &got)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 413 {
		t.Errorf("%v", err)
	}
	torn := errors.New("torn")
	if err := c.Upload(t.Context(), "/up", io.MultiReader(strings.NewReader("x"), tearing{torn}), &got); !errors.Is(err, torn) {
		t.Errorf("%v", err)
	}
}

type tearing struct{ err error }

func (r tearing) Read([]byte) (int, error) { return 0, r.err }
