package names_test

import (
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/names"
)

func TestSet(t *testing.T) {
	var s names.Set[string]
	if _, _, ok := s.Find("a.example.com"); ok {
		t.Error("an empty set has a name")
	}
	for _, pattern := range []string{"*.example.com", "a.example.com", "*.a.example.com", "localhost", "xn--bcher-kva.example"} {
		s.Add(pattern, pattern)
		s.Add(pattern, "the second of "+pattern)
	}
	for name, want := range map[string]string{
		"a.example.com":         "a.example.com",
		"b.example.com":         "*.example.com",
		"x.a.example.com":       "*.a.example.com",
		"localhost":             "localhost",
		"xn--bcher-kva.example": "xn--bcher-kva.example",
		"*.example.com":         "*.example.com",
		"example.com":           "",
		".example.com":          "",
		"x.b.example.com":       "",
		"x.localhost":           "",
		"192.0.2.1":             "",
		"2001:db8::1":           "",
		"com":                   "",
		"":                      "",
	} {
		got, exact, ok := s.Find(name)
		if got != want || ok != (want != "") || exact != (ok && want[0] != '*') {
			t.Errorf("%q finds %q, exact %t, %t, want %q", name, got, exact, ok, want)
		}
	}
}
