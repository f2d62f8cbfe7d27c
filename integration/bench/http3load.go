package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// http3LoadCommand is the argument that makes this program a load generator for HTTP/3: h2load of
// Debian has none. The other arguments are a URL, the address to dial, the file of the server's
// certificate, how many connections, and the time. It prints loadTotals.
const http3LoadCommand = "http3-load"

// runHTTP3Load is the load generator's process.
func runHTTP3Load(args []string) error {
	if len(args) != 5 {
		return errors.New(http3LoadCommand + " is a command that only the benchmark itself runs")
	}
	certificate, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	connections, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	length, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	totals, err := loadHTTP3(args[0], args[1], roots, connections, length)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(totals)
}

// loadHTTP3 asks for a URL by several connections, on each for one request after the other. A wrong
// answer is an error, because the rate of those would mean something else.
func loadHTTP3(url, address string, roots *x509.CertPool, connections int, length time.Duration) (all loadTotals, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	began := time.Now()
	for range connections {
		asking.Go(func() {
			client := &http3.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots},
				Dial: func(ctx context.Context, _ string, tls *tls.Config, cfg *quic.Config) (*quic.Conn, error) {
					return quic.DialAddrEarly(ctx, address, tls, cfg)
				},
			}
			defer client.Close()
			for time.Since(began) < length && ctx.Err() == nil {
				status, broken := get(ctx, client, url)
				mu.Lock()
				switch {
				case broken != nil:
					all.Broken++
				case status != http.StatusOK:
					err = fmt.Errorf("%s got the wrong answer %d", http3LoadCommand, status)
					cancel()
				default:
					all.Done++
				}
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	all.Took = time.Since(began)
	if err == nil && all.Done == 0 {
		err = fmt.Errorf("%s got no answer", http3LoadCommand)
	}
	return all, err
}

// get asks for a URL, and reads the answer.
func get(ctx context.Context, client *http3.Transport, url string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	answer, err := client.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}
