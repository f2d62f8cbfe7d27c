package caddymodule

import (
	"fmt"
	"net/url"
	"slices"

	"github.com/spf13/cobra"
)

// parameters are the query parameters of a request, which are the flags of the
// command that makes it, too.
type parameters[T any] map[string]struct {
	usage string
	parse func(*T, string) error
}

func (p parameters[T]) parse(query url.Values) (parsed T, err error) {
	for _, name := range sortedKeys(query) {
		parameter, ok := p[name]
		if !ok {
			return parsed, fmt.Errorf("unknown parameter %q: want %s", name, names(p))
		}
		if err := parameter.parse(&parsed, query.Get(name)); err != nil {
			return parsed, err
		}
	}
	return parsed, nil
}

// register makes flags of them, but for those that the command has otherwise.
func (p parameters[T]) register(cmd *cobra.Command, without ...string) {
	for name, parameter := range p {
		if !slices.Contains(without, name) {
			cmd.Flags().String(name, "", parameter.usage)
		}
	}
}

// query is the query for the flags that are set.
func (p parameters[T]) query(cmd *cobra.Command) url.Values {
	query := make(url.Values)
	for name := range p {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			query.Set(name, flag.Value.String())
		}
	}
	return query
}
