// Package config makes one Go struct the manual of a program: the same fields and tags load its file, check it, document it, write a
// first one, and tell what a new one changes.
//
//	TOML v1.0.0  the files; pelletier/go-toml scans them. No RFC says how a program is configured
//
// Plane: management. The tags of a field:
//
//	toml:"name"       its key; without it the field's name in snake_case. "-" hides the field
//	doc:"..."         one or two sentences, citing the RFC sections behind the bounds
//	default:"5m"      what holds when the key is absent; of a list its elements parted by commas
//	min:"" max:""     bounds, written like the value; of text its characters, of a list its elements are counted
//	oneof:"a b"       the only values allowed
//	unit:"bytes"      an integer written "50MB", "64KiB" or as a number
//	secret:"true"     text that is never printed; x_file and x_env may stand for x
//	required:"true"   the file must give it
//	reload:"restart"  a change counts only after a restart; on a struct it holds for all below
//	example:"..."     shown where something else was found
//
// A field may be a bool, an integer, a float, a string, a [time.Duration], a [net/netip] Addr, AddrPort or Prefix, anything else that is
// an encoding.TextUnmarshaler, a struct, a pointer to one (absent from the file: nil), and lists and maps by string of all these.
// A struct that has CheckConfig(report func(key string, err error)) or Check() error on its pointer is asked once its fields are good.
// CheckFiles, of the same form, is for what only a look at other files tells; [Peek], whose callers may not read them, does not ask it.
//
// The path of one file: wire.go turns octets into a tree whose every node knows its line and column, schema.go turns the struct into
// keys, decode.go lays the one upon the other and collects every error, load.go hands over a whole struct or nothing. print.go,
// template.go, reference.go and diff.go walk the same keys the other way.
//
// Left out: including other files, variables in values, environment variables that override keys. One file says what holds.
package config
