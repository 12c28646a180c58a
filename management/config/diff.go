package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// Change is one key whose value differs between two configs.
type Change struct {
	Key      string // "submission.listen", "customer[2].domains"
	Old, New string // as TOML; empty when the key is absent; secrets are hidden
	Restart  bool   // counts only after a restart
}

// String gives `smtp.banner: "a" -> "b"`, and says when a restart is needed.
func (c Change) String() string {
	s := fmt.Sprintf("%s: %s -> %s", c.Key, cmp.Or(c.Old, "absent"), cmp.Or(c.New, "absent"))
	if c.Old == c.New {
		s = c.Key + ": changed" // a secret
	}
	if c.Restart {
		s += " (needs a restart)"
	}
	return s
}

// Diff lists the keys that differ between two configs of one type, by key.
func Diff(old, new any) ([]Change, error) {
	a, err := structOf(old)
	if err != nil {
		return nil, err
	}
	b, err := structOf(new)
	if err != nil {
		return nil, err
	}
	if a.Type() != b.Type() {
		return nil, fmt.Errorf("config: %s is not %s", a.Type(), b.Type())
	}
	before, after := flat{}, flat{}
	before.section(a, "", false)
	after.section(b, "", false)
	var changes []Change
	for at, was := range before {
		if is := after[at]; is.text != was.text {
			changes = append(changes, Change{at, was.shown, is.shown, was.restart})
		}
	}
	for at, is := range after {
		if _, ok := before[at]; !ok {
			changes = append(changes, Change{at, "", is.shown, is.restart})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Key, b.Key) })
	return changes, nil
}

// flat holds every value of a config by its path.
type flat map[string]entry

type entry struct {
	text, shown string
	restart     bool
}

func (f flat) section(v reflect.Value, at string, restart bool) {
	for k, fv := range fields(v) {
		f.value(k, fv, join(at, k.name), restart || k.restart)
	}
}

func (f flat) value(k *key, v reflect.Value, at string, restart bool) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return
	}
	if !k.tables() {
		f[at] = entry{k.text(v), k.shownText(v), restart}
		return
	}
	switch v = indirect(v); shapeOf(v.Type()) {
	case series:
		for i := range v.Len() {
			f.value(k.element(), v.Index(i), fmt.Sprintf("%s[%d]", at, i+1), restart)
		}
	case lookup:
		for _, name := range sortedKeys(v) {
			f.value(k.element(), v.MapIndex(reflect.ValueOf(name).Convert(v.Type().Key())), join(at, name), restart)
		}
	default:
		f.section(v, at, restart)
	}
}
