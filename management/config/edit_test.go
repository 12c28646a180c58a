package config

import "testing"

// TestExtend: what a person wrote stays as it is.
func TestExtend(t *testing.T) {
	keys := Addition{Table: "relay", Keys: []string{"username", "pins", "port"}, Values: Values{"username": `a"b`, "pins": []string{"x", "y"}, "port": 25}}
	one := Addition{Table: "fetch", List: true, Keys: []string{"provider"}, Values: Values{"provider": "p:1"}}
	const written = "username = \"a\\\"b\"\npins = [\"x\", \"y\"]\nport = 25\n"
	for _, c := range []struct {
		text string
		add  Addition
		want string
	}{
		{"", keys, "\n[relay]\n" + written},
		{"a = 1", keys, "a = 1\n\n[relay]\n" + written},
		{"# mine\n[relay] # here\ntls = \"none\"\n\n[x]\n", keys, "# mine\n[relay] # here\n" + written + "tls = \"none\"\n\n[x]\n"},
		{"#[relay]\n[relay.next_hops]\n", keys, "#[relay]\n[relay.next_hops]\n\n[relay]\n" + written},
		{"[fetch]\nprovider = \"q\"\n[fetch.limits]\n", one, "[[fetch]]\nprovider = \"q\"\n[fetch.limits]\n\n[[fetch]]\nprovider = \"p:1\"\n"},
		{"[[fetch]]\nprovider = \"q\"\n", one, "[[fetch]]\nprovider = \"q\"\n\n[[fetch]]\nprovider = \"p:1\"\n"},
	} {
		if got := string(Extend([]byte(c.text), c.add)); got != c.want {
			t.Errorf("%q became\n%s\nwant\n%s", c.text, got, c.want)
		}
	}
}
