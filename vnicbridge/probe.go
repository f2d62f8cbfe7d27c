package vnicbridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// dialer opens a connection, as net.Dialer does.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// maxHealthHeader is how much of an answer's head a check reads.
const maxHealthHeader = 64 << 10

// probe asks a segment's server once. The error says what is wrong with it.
func (h Health) probe(ctx context.Context, dial dialer, host netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(h.Timeout))
	defer cancel()
	address := netip.AddrPortFrom(host, h.Port).String()
	ask := probeTCP
	if h.Protocol == HealthHTTP {
		ask = h.probeHTTP
	}
	err := ask(ctx, dial, address)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return fmt.Errorf("%s/%d does not answer within %s", h.Protocol, h.Port, h.Timeout)
	}
	return err
}

func probeTCP(ctx context.Context, dial dialer, address string) error {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// probeHTTP looks at the status alone: a redirection is an answer, and is not
// followed.
func (h Health) probeHTTP(ctx context.Context, dial dialer, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+h.Path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "caddy-vnic health check")
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHealthHeader}
	resp, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("GET %s: %s", request.URL, resp.Status)
	}
	return nil
}
