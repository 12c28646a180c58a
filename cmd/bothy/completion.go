package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCmd prints what a shell needs to complete our commands and flags.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `Examples:

    source <(bothy completion bash)
    bothy completion zsh > ~/.zfunc/_bothy
    bothy completion fish > ~/.config/fish/completions/bothy.fish`
}

func (c *completionCmd) Run(k *kong.Kong, std stdio) error {
	words := vocabulary(k.Model.Node, "")
	switch c.Shell {
	case "fish":
		return fish(std.out, words)
	case "zsh":
		return zsh(std.out, words)
	}
	return bash(std.out, words)
}

// place is what may follow one command: "" is bothy itself, "queue list" a subcommand.
type place struct {
	path  string
	words []word
}

// word is a subcommand or a flag.
type word struct {
	text, help string
	values     []string // the only ones that the flag takes
}

// vocabulary walks the commands below node.
func vocabulary(node *kong.Node, path string) []place {
	here := place{path: path}
	var below []place
	for _, child := range node.Children {
		if child.Hidden {
			continue
		}
		here.words = append(here.words, word{text: child.Name, help: child.Help})
		below = append(below, vocabulary(child, strings.TrimSpace(path+" "+child.Name))...)
	}
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			here.words = append(here.words, word{"--" + f.Name, f.Help, choices(f.Value)})
		}
	}
	if path == "completion" {
		here.words = slices.Insert(here.words, 0, word{text: "bash"}, word{text: "zsh"}, word{text: "fish"})
	}
	return append([]place{here}, below...)
}

// choices are the words that a flag takes; none when it takes any.
func choices(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return slices.DeleteFunc(v.EnumSlice(), func(s string) bool { return s == "" })
}

// valueCases are the branches of a case for each flag that takes some words only; a flag means the same everywhere.
func valueCases(places []place, line func(values string) string) string {
	cases := map[string]string{}
	for _, p := range places {
		for _, w := range p.words {
			if len(w.values) > 0 {
				cases[w.text] = strings.Join(w.values, " ")
			}
		}
	}
	var b strings.Builder
	for _, flag := range slices.Sorted(maps.Keys(cases)) {
		fmt.Fprintf(&b, "  %s) %s ;;\n", flag, line(cases[flag]))
	}
	return b.String()
}

// texts are the flags of a place, or its other words.
func (p place) texts(flags bool) string {
	var texts []string
	for _, w := range p.words {
		if strings.HasPrefix(w.text, "-") == flags {
			texts = append(texts, w.text)
		}
	}
	return strings.Join(texts, " ")
}

// shellQuote makes one word of s for any of the three shells.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }

// pathCases are the branches of a case for each place.
func pathCases(places []place, line func(place) string) string {
	var b strings.Builder
	for _, p := range places {
		fmt.Fprintf(&b, "    %s) %s ;;\n", shellQuote(p.path), line(p))
	}
	return b.String()
}

// commands is the pattern of all places but the first, for a case.
func commands(places []place) string {
	var paths []string
	for _, p := range places[1:] {
		paths = append(paths, shellQuote(p.path))
	}
	return strings.Join(paths, "|")
}

func bash(w io.Writer, places []place) error {
	_, err := fmt.Fprintf(w, `# bash completion for bothy: source <(bothy completion bash)
_bothy() {
  local cur=${COMP_WORDS[COMP_CWORD]} path= word words flags
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "${path:+$path }$word" in
    %s) path="${path:+$path }$word" ;;
    esac
  done
  case "$path" in
%s  esac
  [[ $cur == -* ]] && words=$flags
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  case "${COMP_WORDS[COMP_CWORD-1]}" in
  -c|--config|--password-file) COMPREPLY=() ;;
%s  esac
}
complete -o default -F _bothy bothy
`, commands(places), pathCases(places, func(p place) string {
		return "words=" + shellQuote(p.texts(false)) + " flags=" + shellQuote(p.texts(true))
	}), valueCases(places, func(values string) string {
		return "mapfile -t COMPREPLY < <(compgen -W " + shellQuote(values) + ` -- "$cur")`
	}))
	return err
}

func zsh(w io.Writer, places []place) error {
	described := func(p place) string {
		var items []string
		for _, w := range p.words {
			items = append(items, shellQuote(strings.ReplaceAll(w.text, ":", `\:`)+":"+w.help))
		}
		return "choices=(" + strings.Join(items, " ") + ")"
	}
	_, err := fmt.Fprintf(w, `#compdef bothy
# zsh completion for bothy: bothy completion zsh > ~/.zfunc/_bothy
_bothy() {
  local given where=''
  local -a choices
  for given in "${(@)words[2,CURRENT-1]}"; do
    case "${where:+$where }$given" in
    %s) where="${where:+$where }$given" ;;
    esac
  done
  case "$where" in
%s  esac
  [[ $PREFIX == -* ]] || choices=("${(@)choices:#-*}")
  case "${words[CURRENT-1]}" in
%s  esac
  (( $#choices )) && _describe 'bothy' choices || _files
}
_bothy "$@"
`, commands(places), pathCases(places, described), valueCases(places, func(values string) string { return "choices=(" + values + ")" }))
	return err
}

func fish(w io.Writer, places []place) error {
	var b strings.Builder
	b.WriteString("# fish completion for bothy: bothy completion fish > ~/.config/fish/completions/bothy.fish\n")
	b.WriteString(`function __bothy_at
  set -l path
  for word in (commandline -opc)[2..]
    switch "$path $word"
`)
	for _, p := range places[1:] {
		parent, name := "", p.path
		if i := strings.LastIndexByte(p.path, ' '); i >= 0 {
			parent, name = p.path[:i], p.path[i+1:]
		}
		fmt.Fprintf(&b, "      case %s\n        set path %s\n", fishQuote(parent+" "+name), fishQuote(p.path))
	}
	b.WriteString("    end\n  end\n  test \"$path\" = \"$argv[1]\"\nend\n")
	for _, p := range places {
		at := fishQuote("__bothy_at " + fishQuote(p.path))
		for _, w := range p.words {
			if flag, ok := strings.CutPrefix(w.text, "--"); ok && len(w.values) > 0 {
				fmt.Fprintf(&b, "complete -c bothy -x -n %s -l %s -a %s -d %s\n", at, flag, fishQuote(strings.Join(w.values, " ")), fishQuote(w.help))
			} else if ok {
				fmt.Fprintf(&b, "complete -c bothy -n %s -l %s -d %s\n", at, flag, fishQuote(w.help))
			} else {
				fmt.Fprintf(&b, "complete -c bothy -f -n %s -a %s -d %s\n", at, w.text, fishQuote(w.help))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fishQuote makes one word of s for fish, whose single quotes know two escapes.
func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
