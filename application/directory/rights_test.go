package directory

import (
	"errors"
	"reflect"
	"testing"
)

func TestRights(t *testing.T) {
	d := village(t)
	set := func(r Rights) {
		t.Helper()
		if err := d.SetRights(t.Context(), "keeper@light.example", r); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.Rights("keeper@light.example"); !reflect.DeepEqual(got, Rights{}) {
		t.Errorf("at first: %+v", got)
	}
	set(Rights{
		SendAs: []string{"Boss@hospital.example", "@ward.example", "@.Lab.example", "@ward.example"},
		SendTo: []string{"local", "doctor@hospital.example"}, Messages: 3, Recipients: 5, Size: 7,
	})
	want := Rights{
		SendAs: []string{"@.lab.example", "@ward.example", "boss@hospital.example"},
		SendTo: []string{"doctor@hospital.example", "local"}, Messages: 3, Recipients: 5, Size: 7,
	}
	if got := d.Rights("Keeper@light.example"); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for a, want := range map[string]bool{
		"keeper@light.example": true, "boss@hospital.example": true, "BOSS@hospital.example": true, "doctor@hospital.example": false,
		"x@ward.example": true, "x@a.ward.example": false, "x@a.lab.example": true, "x@lab.example": false, "x@slab.example": false,
	} {
		if got := d.MaySend("keeper@light.example", address(t, a)); got != want {
			t.Errorf("as %s: %t", a, got)
		}
	}
	for a, want := range map[string]bool{
		"anybody@light.example": true, "doctor@hospital.example": true, "nurse@hospital.example": false,
	} {
		if got := d.MaySendTo("keeper@light.example", address(t, a)); got != want {
			t.Errorf("to %s: %t", a, got)
		}
	}
	if d.MaySendTo("nobody", address(t, "keeper@light.example")) {
		t.Error("an account that is none sends")
	}
	if a, ok := d.Address("keeper@light.example"); !ok || a != address(t, "keeper@light.example") {
		t.Error(a, ok)
	}
	if a, ok := d.Address("clinic"); ok {
		t.Error("an account without an address has", a)
	}
	set(Rights{SendAs: []string{"*"}})
	if !d.MaySend("keeper@light.example", address(t, "x@y.example")) || !d.MaySendTo("keeper@light.example", address(t, "x@y.example")) {
		t.Error("* is not everything")
	}
	if err := d.SetDisabled(t.Context(), "keeper@light.example", true); err != nil {
		t.Fatal(err)
	}
	if d.MaySend("keeper@light.example", address(t, "x@y.example")) || d.MaySendTo("keeper@light.example", address(t, "x@y.example")) {
		t.Error("a disabled account sends")
	}
	set(Rights{})
	again := open(t, d.file)
	if got := again.Rights("keeper@light.example"); !reflect.DeepEqual(got, Rights{}) {
		t.Errorf("taken back: %+v", got)
	}
}

func TestRightsRefused(t *testing.T) {
	d := village(t)
	for _, p := range []string{"", "@", "keeper", "@.", "@-x.example", "a@b@c.example", "**"} {
		if err := d.SetRights(t.Context(), "keeper@light.example", Rights{SendAs: []string{p}}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", p, err)
		}
	}
	if err := d.SetRights(t.Context(), "keeper@light.example", Rights{Messages: -1}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if err := d.SetRights(t.Context(), "nobody", Rights{}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
