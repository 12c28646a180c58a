package smtp

import (
	"strings"
	"testing"
	"time"

	"bothy/application/message"
)

// TestTracking: RFC 3885 §3.1: what is left of the time goes on with the certifier, and nothing once it is over.
func TestTracking(t *testing.T) {
	now := clock()
	certifier := strings.Repeat("\xfb", 20)
	for left, want := range map[time.Duration]string{
		90 * time.Second: " MTRK=+/v7+/v7+/v7+/v7+/v7+/v7+/s:90", 0: "", -time.Hour: "",
	} {
		got := string(appendTracking(nil, message.Tracking{Certifier: certifier, Until: now.Add(left)}, now))
		if got != want {
			t.Errorf("%v: %q, want %q", left, got, want)
		}
		if want == "" {
			continue
		}
		back, in, ok := parseTracking(strings.TrimPrefix(got, " MTRK="))
		if back != certifier || in != left || !ok {
			t.Errorf("%q is read as %q, %v, %t", got, back, in, ok)
		}
	}
}

func FuzzTracking(f *testing.F) {
	f.Add("c0uosxl10Nuup00knn6NoieWyUk:3600")
	f.Fuzz(func(t *testing.T, s string) {
		certifier, in, ok := parseTracking(s)
		if !ok || in == 0 {
			return
		}
		now := clock()
		again, left, ok := parseTracking(strings.TrimPrefix(string(appendTracking(nil, message.Tracking{Certifier: certifier, Until: now.Add(in)}, now)), " MTRK="))
		if again != certifier || left != in || !ok {
			t.Errorf("%q: %q %v", s, again, left)
		}
	})
}
