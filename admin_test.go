package site

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"bothy/application/odmr"
)

// opened is a site with its stores and services made, none of them running.
func opened(t *testing.T, cfg Config) *Site {
	t.Helper()
	s, err := open(t.Context(), cfg, Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	next, _, err := s.compose(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.current.Store(next)
	return s
}

// A program that reads the answers finds lists where nothing waits, one end, and durations with their unit.
func TestAnswers(t *testing.T) {
	s := opened(t, Config{
		Hostname: "mail.clinic.example", Data: t.TempDir(),
		Fetch: []odmr.CustomerConfig{{Provider: "127.0.0.1:1", TLS: "none", Username: "clinic", Password: "sesame"}},
	})
	status, err := s.status(t.Context(), struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(status); err != nil || !strings.Contains(string(b), `"lanes":[]`) {
		t.Errorf("%v %s", err, b)
	}
	var stages []string
	var last []byte
	err = s.fetch(t.Context(), FetchRequest{}, func(e FetchEvent) (err error) {
		stages = append(stages, e.Stage)
		last, err = json.Marshal(e)
		return err
	})
	if err != nil || !slices.Equal(stages, slices.Compact(slices.Clone(stages))) || !strings.Contains(string(last), `"stage":"ended"`) {
		t.Errorf("%v %q", err, stages)
	}
	if text := string(last); !strings.Contains(text, `"done":true`) || !strings.Contains(text, `"took_seconds":0.`) || !strings.Contains(text, `"outcome":"unreachable"`) {
		t.Error(text)
	}
}
