package api

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
)

// Parameters are the query parameters of a request, by name. The command that makes the
// request has flags of the same names.
type Parameters[T any] map[string]struct {
	Usage string
	parse func(*T, string) error
}

func (p Parameters[T]) parse(query url.Values) (parsed T, err error) {
	for _, name := range slices.Sorted(maps.Keys(query)) {
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
