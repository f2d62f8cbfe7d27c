package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Dialer opens a connection, as net.Dialer does.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Server is the way to a server: the address at which it is dialed.
type Server struct {
	Dial      Dialer
	Host      netip.Addr
	Elsewhere bool // another machine has the way to it now
}

// maxHealthHeader is how many bytes of a response a check reads, at most.
const maxHealthHeader = 64 << 10

// Probe checks a server once, and waits at most h.Timeout. The error tells what is wrong.
func Probe(ctx context.Context, h config.Health, dial Dialer, host netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(h.Timeout))
	defer cancel()
	address := netip.AddrPortFrom(host, h.Port).String()
	var err error
	if h.Protocol == config.HealthHTTP {
		err = probeHTTP(ctx, dial, address, h.Path)
	} else {
		err = probeTCP(ctx, dial, address)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return fmt.Errorf("%s/%d does not answer within %s", h.Protocol, h.Port, h.Timeout)
	}
	return err
}

func probeTCP(ctx context.Context, dial Dialer, address string) error {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// probeHTTP passes if the status is 2xx or 3xx. It does not follow redirections.
func probeHTTP(ctx context.Context, dial Dialer, address, path string) error {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "caddy-vnic health check")
	request.Close = true
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := request.Write(conn); err != nil {
		return err
	}
	status, err := finalStatus(bufio.NewReader(io.LimitReader(conn, maxHealthHeader)), request)
	if err != nil {
		return fmt.Errorf("GET %s: %w", request.URL, err)
	}
	if status < 200 || status > 399 {
		// The server's own reason phrase stays out, because errors are shown on terminals.
		return fmt.Errorf("GET %s: %d %s", request.URL, status, http.StatusText(status))
	}
	return nil
}

// finalStatus reads the status of a response, after informational ones (1xx).
func finalStatus(from *bufio.Reader, request *http.Request) (int, error) {
	for {
		resp, err := http.ReadResponse(from, request)
		if err != nil {
			return 0, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp.StatusCode, nil
		}
	}
}
