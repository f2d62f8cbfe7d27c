package integration_test

import (
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// The commands and the Caddyfile of docs/remote.md give clients a server on another machine, which is
// nginx here. The names of the devices are the tests'.
func TestDocumentedRemoteSegment(t *testing.T) {
	const page = "docs/remote.md"
	onEachDataPath(t, func(t *testing.T, datapath string) {
		r := &remoteScene{scene: newScene(t, paper.NetworkOptions{})}
		var err error
		if r.far, err = r.NewHost("far"); err != nil {
			t.Fatal(err)
		}
		r.join([]*netlab.Host{r.Server, r.far})
		own := strings.NewReplacer("eth2", "under", "eth1", "nic0")
		for words, h := range map[string]*netlab.Host{"remote 10.0.0.1": r.far, "remote 10.0.0.2": r.Server} {
			r.run(h, "sh", "-ec", own.Replace(examples.Beginning(t, page, "ip link add vx60 type vxlan id 60 dstport 4789 "+words)))
		}
		r.startNginxOn(r.far, "192.168.60.1:80", `location / { return 200 "far $remote_addr"; }`)
		r.echoUDP(r.far, "192.168.60.1:5000")
		config := own.Replace(examples.Beginning(t, page, "{\n\tvnic {"))
		if err := r.tryStart(strings.Replace(config, "\tvnic {", "\tvnic {\n\t\tdatapath "+datapath, 1)); err != nil {
			t.Fatal(err)
		}
		if got := r.get("http://192.168.1.2/"); got != "far "+paper.PC1Addr.String() {
			t.Errorf("the server answers %q", got)
		}
		alias := r.status().Segments["c"].Peers["front"][0].String()
		if got := r.get("http://192.168.1.2:8080/"); got != "far "+alias {
			t.Errorf("by the front, the server answers %q, want it to see %s", got, alias)
		}
		if err := r.askFrom(r.PC1, "192.168.1.2:5000"); err != nil {
			t.Error(err)
		}
		if h := r.status().Segments["c"].Health; !h.Healthy || !h.Checked {
			t.Errorf("the segment is %+v", h)
		}
	})
}
