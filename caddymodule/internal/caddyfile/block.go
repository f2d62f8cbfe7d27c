package caddyfile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// option is one option of a block.
type option struct {
	parse      func(*caddyfile.Dispenser) error // begins at the option's name
	repeatable bool
	list       bool // several values can follow the name
}

type options map[string]option

// parseBlock reads the options in the braces that follow, if any. Errors call the block
// what.
func parseBlock(d *caddyfile.Dispenser, what string, known options) error {
	seen := make(map[string]int)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if name == "{" {
			return d.Err("unexpected {: the option before it takes no block")
		}
		opt, ok := known[name]
		if !ok {
			return d.Errf("unknown %s option %q: the options are %s%s", what, name, names(known), misplaced(what, name))
		}
		if line, twice := seen[name]; twice && !opt.repeatable {
			return d.Errf("%s is given twice; the first is on line %d%s", name, line, together(opt))
		}
		seen[name] = d.Line()
		if err := opt.parse(d); err != nil {
			return err
		}
	}
	return nil
}

// together returns a hint for a list whose values stand on several lines.
func together(opt option) string {
	if opt.list {
		return ": put all its values on one line"
	}
	return ""
}

func names[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

// value parses an option with exactly one argument.
func value[T any](target *T, parse func(string) (T, error)) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		text, err := oneArgument(d)
		if err != nil {
			return err
		}
		v, err := parse(text)
		if err != nil {
			return d.WrapErr(err)
		}
		*target = v
		return nil
	}
}

// oneArgument reads the only argument of an option.
func oneArgument(d *caddyfile.Dispenser) (string, error) {
	name, args := d.Val(), d.RemainingArgs()
	switch {
	case len(args) == 0:
		return "", noValue(d, name)
	case len(args) == 1:
		return args[0], noSemicolon(d, args[0])
	case strings.HasPrefix(args[1], "//") || strings.HasPrefix(args[1], ";"):
		return "", d.Errf("%s takes one value; a comment begins with #", name)
	default:
		return "", d.Errf("%s takes one value, and has %d: %s", name, len(args), strings.Join(args, " "))
	}
}

func noValue(d *caddyfile.Dispenser, name string) error {
	return d.Errf("%s has no value; if that comes from an environment variable, it is not set", name)
}

// noSemicolon refuses the semicolon that ends a line in other configuration languages.
func noSemicolon(d *caddyfile.Dispenser, text string) error {
	if strings.HasSuffix(text, ";") {
		return d.Errf("%s: a line of a Caddyfile ends without a semicolon", text)
	}
	return nil
}

// misplaced returns a hint at a missing or an extra brace, if an option of a segment or
// bridge stands outside its block.
func misplaced(what, name string) string {
	if what != "vnic" {
		return ""
	}
	p := newParser()
	for _, part := range []struct {
		kind  string
		known options
	}{{"segment", p.segmentOptions(new(config.Segment))}, {"bridge", p.bridgeOptions(new(config.Bridge))}} {
		if _, ok := part.known[name]; ok {
			return fmt.Sprintf("; %s stands in the braces of a %s: is its { missing, or a } too early?", name, part.kind)
		}
	}
	return ""
}

// number parses an option whose one argument is 1 or more. want describes it in errors.
func number(target *int, want string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		return value(target, func(text string) (int, error) {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return 0, fmt.Errorf("%s %s: want %s", name, text, want)
			}
			return n, nil
		})(d)
	}
}

// secret parses a key. Errors do not quote it, because Caddy logs them.
func secret(target *config.Key) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) (err error) {
		name, args := d.Val(), d.RemainingArgs()
		switch {
		case len(args) == 0:
			return noValue(d, name)
		case len(args) > 1:
			return d.Errf("%s takes one value, and has %d", name, len(args))
		}
		if *target, err = config.ParseKey(args[0]); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// word parses an option with one argument, which it does not check.
func word[T ~string](target *T) func(*caddyfile.Dispenser) error {
	return value(target, func(text string) (T, error) { return T(text), nil })
}

// flag parses an option without arguments, whose presence sets the target.
func flag(target *bool) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if d.NextArg() {
			return d.ArgErr()
		}
		*target = true
		return nil
	}
}

// values parses an option with one or more arguments.
func values[T any](target *[]T, parse func(string) (T, error)) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name, before := d.Val(), len(*target)
		for d.NextArg() {
			if err := noSemicolon(d, d.Val()); err != nil {
				return err
			}
			if strings.HasPrefix(d.Val(), "//") {
				return d.Errf("%s: a comment begins with #", d.Val())
			}
			v, err := parse(d.Val())
			if err != nil {
				return d.WrapErr(err)
			}
			*target = append(*target, v)
		}
		if len(*target) == before {
			return noValue(d, name)
		}
		return nil
	}
}

// errAt returns an error at an earlier token.
func errAt(token caddyfile.Token, err error) error {
	d := caddyfile.NewDispenser([]caddyfile.Token{token})
	d.Next()
	return d.WrapErr(err)
}
