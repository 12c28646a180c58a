package file

import (
	"os"
	"path/filepath"
	"testing"
)

// TestReplace: a new file and an old one get content and mode, whatever they had; nothing else is left in the directory, after a failure too.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "key")
	for _, content := range []string{"a longer one", "short"} {
		if err := Replace(name, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		info, _ := os.Stat(name)
		if err != nil || string(got) != content || info.Mode() != 0o640 {
			t.Errorf("%q, %v, %v", got, info.Mode(), err)
		}
	}
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(taken, nil, 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if err := Replace(filepath.Join(dir, "gone", "key"), nil, 0o600); err == nil {
		t.Error("a file was made in no directory")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}
