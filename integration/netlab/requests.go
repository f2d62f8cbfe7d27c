package netlab

import (
	"bytes"
	"slices"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// The versions of HTTP, as in [http.Response].
const (
	HTTP1 = "HTTP/1.1"
	HTTP2 = "HTTP/2.0"
	HTTP3 = "HTTP/3.0"
)

// RequestPath is the path of the HTTP/1.1 request that begins in a frame; ok is
// false when none does.
func RequestPath(f Frame) (path string, ok bool) {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
	tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok {
		return "", false
	}
	line, _, _ := bytes.Cut(tcp.Payload, []byte("\r\n"))
	words := strings.Fields(string(line))
	if len(words) != 3 || words[2] != "HTTP/1.1" {
		return "", false
	}
	return words[1], true
}

// RequestPaths are the different paths of the requests that passed a device of a
// capture, sorted.
func RequestPaths(frames []Frame, device int) []string {
	var paths []string
	for _, f := range frames {
		if path, ok := RequestPath(f); ok && f.Interface == device && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}
