package caddymodule

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// TestAdapt adapts the Caddyfiles of testdata/adapt: each file is a Caddyfile, a
// line of ten dashes, and its JSON or its error.
func TestAdapt(t *testing.T) {
	for name, fixture := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			adapted, err := adapt(fixture.caddyfile)
			if !strings.HasPrefix(fixture.want, "{") {
				if err == nil {
					t.Fatalf("no error; want\n%s", fixture.want)
				}
				if err.Error() != fixture.want {
					t.Fatalf("the error is\n%v\nwant\n%s", err, fixture.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, adapted, "", "\t"); err != nil {
				t.Fatal(err)
			}
			if got.String() != fixture.want {
				t.Errorf("the JSON is\n%s\nwant\n%s", got.String(), fixture.want)
			}
			roundTrip(t, adapted)
		})
	}
}

// roundTrip reads the app's JSON as Caddy does, and writes it again.
func roundTrip(t *testing.T, adapted []byte) {
	t.Helper()
	app := appJSON(t, adapted)
	var first, second config.Config
	decoder := json.NewDecoder(bytes.NewReader(app))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&first); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &second); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) || !bytes.Equal(app, again) {
		t.Errorf("the JSON\n%s\nbecomes\n%s", app, again)
	}
}

func appJSON(t *testing.T, adapted []byte) json.RawMessage {
	t.Helper()
	var config struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	return config.Apps["vnic"]
}

func adapt(text string) ([]byte, error) {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return adapted, err
}

type fixture struct{ caddyfile, want string }

func fixtures(t testing.TB) map[string]fixture {
	t.Helper()
	paths, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(paths) == 0 {
		t.Fatal("no fixtures: ", err)
	}
	all := make(map[string]fixture)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		caddyfile, want, ok := strings.Cut(string(data), "\n----------\n")
		if !ok {
			t.Fatalf("%s: no line of ten dashes", path)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".caddyfiletest")
		all[name] = fixture{caddyfile + "\n", strings.TrimSpace(want)}
	}
	return all
}
