package integration_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Servers that open flows to their clients by themselves: FTP in active mode, and TFTP.
// They work where docs/caddyfile.md says.
func TestServersThatOpenFlows(t *testing.T) {
	t.Parallel()
	config := segmentFiles(t)
	for _, datapath := range []string{"userspace", "kernel"} {
		t.Run(datapath, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, paper.NetworkOptions{})
			s.nicIsEth1()
			if err := s.tryStart(strings.Replace(config, "\tvnic {\n", "\tvnic {\n\t\tdatapath "+datapath+"\n", 1)); err != nil {
				t.Fatal(err)
			}
			content := strings.Repeat("of the segment\n", 100)
			served := make(chan struct{}, 1)
			s.listen(s.Server, "192.168.50.1:21", func(conn net.Conn) {
				s.serveFTP(conn, content)
				served <- struct{}{}
			})
			s.serveTFTP("192.168.50.1:69", content)
			for _, args := range [][]string{
				{"--ftp-port", "-", "--disable-eprt", "ftp://192.168.1.2/file"},
				{"--tftp-no-options", "tftp://192.168.1.2/file"},
			} {
				if got := s.run(s.PC1, "curl", append([]string{"-sS", "--max-time", "10"}, args...)...); got != content {
					t.Errorf("curl %q got %d bytes, want %d", args, len(got), len(content))
				}
			}
			<-served // the server enters the namespace, which is about to go
		})
	}
}

// segmentFiles is the page's Caddyfile for such servers.
func segmentFiles(t *testing.T) string {
	for _, e := range examples.On(t, "docs/caddyfile.md") {
		if strings.Contains(e.Text, "segment files {") {
			return e.Runs(t)
		}
	}
	t.Fatal("docs/caddyfile.md has no segment for FTP and TFTP")
	return ""
}

// serveFTP is a server for listen that sends one file, in active mode (RFC 959).
func (s *scene) serveFTP(conn net.Conn, content string) {
	say := func(line string) { fmt.Fprint(conn, line+"\r\n") }
	say("220 ready")
	var client net.TCPAddr
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		command, argument, _ := strings.Cut(lines.Text(), " ")
		switch command {
		case "USER":
			say("230 logged in")
		case "PWD":
			say(`257 "/"`)
		case "TYPE", "PORT":
			if command == "PORT" {
				var ip [4]byte
				var port [2]byte
				fmt.Sscanf(argument, "%d,%d,%d,%d,%d,%d", &ip[0], &ip[1], &ip[2], &ip[3], &port[0], &port[1])
				client = net.TCPAddr{IP: ip[:], Port: int(binary.BigEndian.Uint16(port[:]))}
			}
			say("200 good")
		case "RETR":
			say("150 coming")
			var data net.Conn
			err := s.Server.Do(func() (err error) {
				data, err = net.DialTCP("tcp4", &net.TCPAddr{IP: net.IP{192, 168, 50, 1}}, &client)
				return err
			})
			if err != nil {
				say("425 " + err.Error())
				continue
			}
			fmt.Fprint(data, content)
			data.Close()
			say("226 sent")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 not known")
		}
	}
}

// serveTFTP sends a file to one client at a time, from another port (RFC 1350).
func (s *scene) serveTFTP(address, content string) {
	s.t.Helper()
	asked, conn := s.packetConn(s.Server, address), s.packetConn(s.Server, "192.168.50.1:0")
	go func() {
		request := make([]byte, 600)
		for {
			_, client, err := asked.ReadFrom(request)
			if err != nil {
				return
			}
			for block := 0; block <= len(content)/512; block++ {
				data := content[block*512 : min((block+1)*512, len(content))]
				conn.WriteTo(append([]byte{0, 3, 0, byte(block + 1)}, data...), client)
				conn.ReadFrom(request)
			}
		}
	}()
}
