package integration_test

import (
	"io"
	"net"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Beside rows F10 and L4: reloads change the data path, or make the kernel's flow table
// anew, beside 10,000 datagrams a second, a stream, and a connection that is idle in
// between. No connection ends, and no datagram is lost. Some come out of order, because they
// waited for one data path while the other carried already.
func TestSwitchingTheDataPathUnderLoad(t *testing.T) {
	s := newScene(t, paper.NetworkOptions{})
	config := func(datapath, maxFlows string) caddyfile {
		return caddyfile{datapath: datapath + "\nmax_flows " + maxFlows, a: "ports any", b: "ports any"}
	}
	s.start(config("userspace", "1000"))
	s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
	idle := s.openSession("192.168.1.2:9000")
	datagrams := s.sendNumbered(10000)
	stream := s.startStream()
	for range 2 {
		for _, to := range []caddyfile{
			config("kernel", "1000"), config("kernel", "2000"), config("userspace", "2000"),
			config("kernel", "500"), config("userspace", "1000"),
		} {
			s.load(to)
			idle.want("a change of the data path")
		}
	}
	lost, arrived := datagrams.end()
	t.Logf("%d were lost, %d came twice, %d out of order", lost, arrived.again, arrived.late)
	if lost > 0 {
		t.Errorf("%d datagrams were lost", lost)
	}
	stream.finish()
	if status := s.status(); status.Flows != 3 {
		t.Errorf("%d flows live, want 3", status.Flows)
	}
}
