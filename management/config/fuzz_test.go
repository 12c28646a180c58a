package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// FuzzLoad: no input panics; what loads is TOML to go-toml too, and prints to a config that loads the same.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(full))
	files, _ := filepath.Glob("testdata/errors/*.toml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	s := secrets{
		file: func(string, int64) ([]byte, os.FileMode, error) { return []byte("hunter2"), 0o600, nil },
		env:  func(string) (string, bool) { return "hunter3", true },
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var h, again house
		_, err := load("f", data, &h, s)
		if err != nil {
			_ = err.Error()
			if !reflect.DeepEqual(h, house{}) {
				t.Fatal("an error, and something set")
			}
			return
		}
		if err := toml.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), new(map[string]any)); err != nil {
			t.Fatalf("loaded what is no TOML: %v", err)
		}
		h.TLS.Key = ""
		if h.Odmr != nil {
			h.Odmr.Password = hidden
		}
		var b bytes.Buffer
		if err := Print(&b, h); err != nil {
			t.Fatal(err)
		}
		if _, err := load("f", b.Bytes(), &again, s); err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		var twice bytes.Buffer
		if err := Print(&twice, again); err != nil || twice.String() != b.String() {
			t.Fatalf("printed\n%s\nthen\n%s", b.String(), twice.String())
		}
	})
}
