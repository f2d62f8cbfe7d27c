package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/endpoint"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// adminFlags find the admin API as Caddy's own commands do.
type adminFlags struct {
	address, config, adapter string

	watch func(uri string) (*http.Response, error) // of a command that reads again and again; else nil
}

func (f *adminFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.address, "address", "", "", "The address of the running instance's admin API")
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "A configuration file to take the admin address from")
	cmd.Flags().StringVarP(&f.adapter, "adapter", "a", "", "The adapter of that configuration file")
}

// adminOf returns the flags of a command that registered them.
func adminOf(cmd *cobra.Command) *adminFlags {
	value := func(name string) string {
		text, _ := cmd.Flags().GetString(name) // a command without the flag asks the default address
		return text
	}
	return &adminFlags{address: value("address"), config: value("config"), adapter: value("adapter")}
}

// request asks the admin API of the running instance, and returns the answer's body.
func (f *adminFlags) request(method, uri string) ([]byte, error) {
	return f.do(method, uri, nil)
}

// parseAnswer parses the JSON of an answer.
func parseAnswer[T any](raw []byte) (parsed T, err error) {
	if err = json.Unmarshal(raw, &parsed); err != nil {
		err = fmt.Errorf("reading the instance's answer: %w", err)
	}
	return parsed, err
}

// printAnswer prints the JSON of an answer as it is, or parsed, as print does.
func printAnswer[T any](w io.Writer, raw []byte, asJSON bool, print func(T) error) error {
	if asJSON {
		_, err := w.Write(raw)
		return err
	}
	parsed, err := parseAnswer[T](raw)
	if err != nil {
		return err
	}
	return print(parsed)
}

// send makes a request with a JSON body.
func (f *adminFlags) send(method, uri string, body any) error {
	encoded, err := json.Marshal(body)
	if err == nil {
		_, err = f.do(method, uri, bytes.NewReader(encoded))
	}
	return err
}

func (f *adminFlags) do(method, uri string, body io.Reader) ([]byte, error) {
	resp, err := f.open(method, uri, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// endpoint finds the address of the admin API.
func (f *adminFlags) endpoint() (address string, err error) {
	address, err = caddycmd.DetermineAdminAPIAddress(f.address, nil, f.config, f.adapter)
	if err != nil {
		return "", fmt.Errorf("finding the admin API: %w", err)
	}
	return address, nil
}

// open makes a request. The caller reads and closes the answer's body.
func (f *adminFlags) open(method, uri string, body io.Reader) (*http.Response, error) {
	address, err := f.endpoint()
	if err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		resp, err := f.ask(address, method, uri, body)
		if err = explainAdmin(err); err == nil || body != nil || tries == upgradeTries || err.Error() != vnicbridge.ErrYielded.Error() {
			return resp, err
		}
		time.Sleep(upgradePause)
	}
}

// repeat makes what a command reads from now on one watch, of which Caddy logs one line.
func (f *adminFlags) repeat() error {
	address, err := f.endpoint()
	if err != nil {
		return err
	}
	to, err := endpoint.Parse(address)
	if err != nil {
		return err
	}
	watch := to.Watch()
	f.watch = func(uri string) (*http.Response, error) { return to.Get(watch, uri) }
	return nil
}

func (f *adminFlags) ask(address, method, uri string, body io.Reader) (*http.Response, error) {
	if f.watch != nil && method == http.MethodGet {
		return f.watch(uri)
	}
	return caddycmd.AdminAPIRequest(address, method, uri, http.Header{"Content-Type": {"application/json"}}, body)
}

// While a successor takes over, both processes have the admin endpoint, and the kernel chooses one
// of them for each connection.
const (
	upgradeTries = 100
	upgradePause = 50 * time.Millisecond
)

// explainAdmin makes the errors of Caddy's own request readable: it unpacks an error that
// the API answered as JSON, and says what to do if there is no answer.
func explainAdmin(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	var answer struct {
		Error string `json:"error"`
	}
	if at := strings.Index(text, "{"); at >= 0 && json.Unmarshal([]byte(text[at:]), &answer) == nil && answer.Error != "" {
		return errors.New(answer.Error)
	}
	if strings.HasPrefix(text, "performing request:") {
		return fmt.Errorf("%w\nIs Caddy running? If its admin endpoint is elsewhere, name it by --address, or by --config with the Caddyfile that runs; with `admin off` there is none", err)
	}
	return err
}
