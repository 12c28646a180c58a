package odmr

import "testing"

func TestWhatString(t *testing.T) {
	for what := Refused; what <= Failed; what++ {
		if name := what.String(); name == "" || name == "unknown" {
			t.Errorf("%d: %q", int(what), name)
		}
	}
	for _, what := range []What{-1, Failed + 1} {
		if name := what.String(); name != "unknown" {
			t.Errorf("%d: %q", int(what), name)
		}
	}
}
