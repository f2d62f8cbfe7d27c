package command

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

// TestMistypedCommands checks that a mistyped command fails, so that a script does not go on
// as if it had succeeded.
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
		{[]string{"vnic", "status", "a", "b"}, "accepts at most 1 arg(s), received 2"},
		{[]string{"vnic", "drain"}, "accepts 1 arg(s), received 0"},
	} {
		root, vnic := &cobra.Command{Use: "caddy"}, &cobra.Command{Use: "vnic"}
		root.AddCommand(vnic)
		Add(vnic, "")
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

// TestAdminErrors checks that commands print the admin API's errors as text, and say if it does
// not answer.
func TestAdminErrors(t *testing.T) {
	answer := `caddy responded with error: HTTP 404: {"error":"unknown segment \"zzz\": the configuration has a, b"}` + "\n"
	if got, want := explainAdmin(errors.New(answer)).Error(), `unknown segment "zzz": the configuration has a, b`; got != want {
		t.Errorf("the error is %q, want %q", got, want)
	}
	other := errors.New("caddy responded with error: HTTP 500: {")
	if got := explainAdmin(other); got != other {
		t.Errorf("the error is %q, want %q", got, other)
	}
	closed := adminFlags{address: "127.0.0.1:1"}
	if _, err := closed.request(http.MethodGet, api.StatusPath); err == nil || !strings.Contains(err.Error(), "Is Caddy running? If its admin endpoint is elsewhere, name it by --address") {
		t.Errorf("the error is %v", err)
	}
}

func TestWeightsThatCannotBe(t *testing.T) {
	for _, weight := range []string{"0", "257", "much"} {
		cmd := weightCommand()
		cmd.SetArgs([]string{"a", weight, "--address", "127.0.0.1:1"})
		cmd.SilenceUsage = true
		cmd.SetErr(io.Discard)
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "want 1 to 256") || !strings.Contains(err.Error(), "--undo") {
			t.Errorf("weight %s: %v", weight, err)
		}
	}
}

// TestLabNames checks that the lab refuses figures, networks and hosts that it does not have.
func TestLabNames(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"lab --only fig5", "--only fig5: want one of fig4, "},
		{"lab --only fig12,Fig-99", "--only Fig-99: want one of fig4, "},
		{"lab --keep nothing", "--keep nothing: want one of paper, "},
		{"lab enter --captures /nowhere pc3", `unknown host "pc3": want one of pc1, `},
		{"lab enter --captures /nowhere pc1 true", "no network is up: run "},
	} {
		cmd := labCommand("")
		cmd.SetArgs(strings.Fields(test.args)[1:])
		cmd.SetErr(io.Discard)
		cmd.SetOut(io.Discard)
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.args, err, test.want)
		}
	}
}
