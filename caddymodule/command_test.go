package caddymodule

import (
	"io"
	"testing"

	"github.com/spf13/cobra"
)

// A mistyped command fails, so that a script does not go on as if it had succeeded.
func TestMistypedCommands(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string // empty: it succeeds
	}{
		{[]string{"vnic"}, ""},
		{[]string{"vnic", "help"}, ""},
		{[]string{"vnic", "drain", "--help"}, ""},
		{[]string{"vnic", "drian", "a"}, `unknown command "drian" for "caddy vnic": did you mean drain?`},
		{[]string{"vnic", "st"}, `unknown command "st" for "caddy vnic": did you mean stop or start or status?`},
		{[]string{"vnic", "frobnicate"}, `unknown command "frobnicate" for "caddy vnic"`},
		{[]string{"vnic", "status", "a"}, `unknown command "a" for "caddy vnic status"`},
		{[]string{"vnic", "drain"}, "accepts 1 arg(s), received 0"},
	} {
		root, vnic := &cobra.Command{Use: "caddy"}, &cobra.Command{Use: "vnic"}
		root.AddCommand(vnic)
		addCommands(vnic)
		root.SetArgs(test.args)
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		switch err := root.Execute(); {
		case err == nil && test.want != "":
			t.Errorf("%q succeeds", test.args)
		case err != nil && err.Error() != test.want:
			t.Errorf("%q: %v, want %q", test.args, err, test.want)
		}
	}
}
