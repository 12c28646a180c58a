package config

import (
	"testing"
	"time"
)

func TestKeepRestart(t *testing.T) {
	type service struct {
		Listen []string
		Size   int `reload:"restart"`
		when   time.Time
	}
	type whole struct {
		Name    string `reload:"restart"`
		Level   int
		Service service
		Store   service `reload:"restart"`
	}
	old := whole{"a", 1, service{[]string{"x"}, 1, time.Time{}}, service{[]string{"x"}, 1, time.Time{}}}
	next := whole{"b", 2, service{[]string{"y"}, 2, time.Now()}, service{[]string{"y"}, 2, time.Time{}}}
	KeepRestart(&old, &next)
	if next.Name != "a" || next.Level != 2 || next.Service.Listen[0] != "y" || next.Service.Size != 1 || next.Store.Listen[0] != "x" || next.Store.Size != 1 {
		t.Errorf("%+v", next)
	}
}
