package names

import "strings"

// Set maps patterns of host names to values. A pattern is a host name. Its first label may be *,
// which stands for exactly one label. The zero value is an empty set.
type Set[T any] struct {
	hosts     map[string]T
	wildcards map[string]T // by the pattern without its *
}

// Add adds a pattern, which is in lower case and in ASCII. If the set has the pattern already, the
// first value stays.
func (s *Set[T]) Add(pattern string, value T) {
	patterns := &s.hosts
	pattern, wild := strings.CutPrefix(pattern, "*")
	if wild {
		patterns = &s.wildcards
	}
	if *patterns == nil {
		*patterns = make(map[string]T)
	}
	if _, has := (*patterns)[pattern]; !has {
		(*patterns)[pattern] = value
	}
}

// Find returns the value of the pattern that a name of [OfStream] or [OfDatagrams] matches. If the
// set has the name itself, exact is true, and no wildcard counts.
func (s *Set[T]) Find(name string) (value T, exact, ok bool) {
	if value, ok = s.hosts[name]; ok {
		return value, true, true
	}
	if dot := strings.IndexByte(name, '.'); dot > 0 {
		value, ok = s.wildcards[name[dot:]]
	}
	return value, false, ok
}
