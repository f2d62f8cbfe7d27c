package caddymodule

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/command"
	"github.com/caddy-vnic/caddy-vnic/integration/adminclient"
)

const switchURL = "http://localhost:2019/vnic/bridges/lan/switch"

// switchAndBack switches a bridge by the command and by the API, and checks that the status
// shows it and that a reload keeps it.
func switchAndBack(t *testing.T) {
	mustLoad(t, running)
	mustRun(t, "switch", "lan", "b")
	expectSwitched(t, "b")
	mustLoad(t, running)
	expectSwitched(t, "b")
	expectRow(t, "bridge lan", "switched to b", "first a b")
	mustRun(t, "switch", "lan", "--undo")
	expectSwitched(t, "")

	expectSend(t, http.MethodPost, switchURL, `{"segment": "b"}`, http.StatusOK, "")
	expectSwitched(t, "b")
	for _, refused := range []struct {
		method, url, body string
		code              int
		message           string
	}{
		{http.MethodPost, switchURL, `{"segment": "z"}`, http.StatusBadRequest, `bridge lan: lb_policy first a b does not name segment \"z\"`},
		{http.MethodPost, switchURL, `{"segment": ""}`, http.StatusBadRequest, "use DELETE"},
		{http.MethodPost, switchURL, `{"to": "a"}`, http.StatusBadRequest, `unknown field \"to\"`},
		{http.MethodPost, switchURL, "", http.StatusBadRequest, "JSON such as"},
		{http.MethodGet, switchURL, "", http.StatusMethodNotAllowed, "use DELETE or POST"},
		{http.MethodPost, strings.Replace(switchURL, "lan", "wan", 1), `{"segment": "a"}`, http.StatusNotFound, `unknown bridge \"wan\": the configuration has lan`},
		{http.MethodPost, switchURL + "es", "", http.StatusNotFound, "one of activate, drain, switch"},
	} {
		expectSend(t, refused.method, refused.url, refused.body, refused.code, refused.message)
	}
	expectSwitched(t, "b")
	expectSend(t, http.MethodDelete, switchURL, "", http.StatusOK, "")
	expectSwitched(t, "")
	mustRun(t, "switch", "lan", "b", "--flows")
	expectSwitched(t, "b")
	expectSend(t, http.MethodPost, switchURL, `{"segment": "a", "flows": true}`, http.StatusOK, "")
	expectSwitched(t, "a")
	expectSend(t, http.MethodDelete, switchURL, "", http.StatusOK, "")
	expectUsage(t, "switch", "none of the others can be", "lan", "--flows", "--undo")
	expectUsage(t, "switch", "want <bridge> <segment>", "lan")
	expectUsage(t, "switch", "--undo takes", "lan", "b", "--undo")
	expectUsage(t, "switch", "does not name segment", "lan", "z")
}

func weighAndBack(t *testing.T) {
	const weightURL = segmentsURL + "a/weight"
	mustRun(t, "weight", "a", "3")
	mustLoad(t, running)
	expectWeight(t, 3)
	expectRow(t, "segment a", "weight 3", "weight 1")
	mustRun(t, "weight", "a", "--undo")
	expectWeight(t, 1)
	expectSend(t, http.MethodPost, weightURL, `{"weight": 256}`, http.StatusOK, "")
	expectWeight(t, 256)
	expectSend(t, http.MethodPost, weightURL, `{"weight": 257}`, http.StatusBadRequest, "segment a: weight 257: want 1 to 256")
	expectSend(t, http.MethodPost, weightURL, `{"weight": 0}`, http.StatusBadRequest, "drain the segment")
	expectSend(t, http.MethodPost, segmentsURL+"z/weight", `{"weight": 2}`, http.StatusNotFound, "the configuration has a, b")
	expectWeight(t, 256)
	expectSend(t, http.MethodDelete, weightURL, "", http.StatusOK, "")
	expectWeight(t, 1)
	expectUsage(t, "weight", "want 1 to 256", "a", "much")
}

// vnicCommand returns the command `caddy vnic`.
func vnicCommand() *cobra.Command {
	vnic := &cobra.Command{Use: "vnic", SilenceErrors: true}
	command.Add(vnic, "")
	return vnic
}

// run runs a command of `caddy vnic` on the running instance.
func run(name string, args ...string) (output string, err error) {
	var out strings.Builder
	cmd := vnicCommand()
	cmd.SetOut(&out)
	cmd.SetArgs(slices.Concat([]string{name}, args, []string{"--address", "localhost:2019"}))
	err = cmd.Execute()
	return out.String(), err
}

func mustRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	output, err := run(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

func expectUsage(t *testing.T, name, message string, args ...string) {
	t.Helper()
	if _, err := run(name, args...); err == nil || !strings.Contains(err.Error(), message) {
		t.Errorf("%v: the error is %v, want %s", args, err, message)
	}
}

func expectSend(t *testing.T, method, url, body string, code int, message string) {
	t.Helper()
	gotCode, got := fetchWith(t, method, url, strings.NewReader(body))
	if gotCode != code || !strings.Contains(got, message) {
		t.Errorf("%s %s %s answers %d %q, want %d and %q", method, url, body, gotCode, got, code, message)
	}
}

func fetchWith(t *testing.T, method, url string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := adminclient.Of(http.DefaultClient).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func expectSwitched(t *testing.T, want string) {
	t.Helper()
	if got := status(t).Bridges["lan"].SwitchedTo; got != want {
		t.Errorf("lan is switched to %q, want %q", got, want)
	}
}

func expectWeight(t *testing.T, want int) {
	t.Helper()
	if got := status(t).Segments["a"].Weight; got != want {
		t.Errorf("a weighs %d, want %d", got, want)
	}
}

// expectRow looks for a row of the status' tables.
func expectRow(t *testing.T, cells ...string) {
	t.Helper()
	text := mustRun(t, "status")
	for line := range strings.Lines(text) {
		rest, found := line, true
		for _, cell := range cells {
			if _, rest, found = strings.Cut(rest, cell); !found {
				break
			}
		}
		if found {
			return
		}
	}
	t.Errorf("the status has no row with %q:\n%s", cells, text)
}
