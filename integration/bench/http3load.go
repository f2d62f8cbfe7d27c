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
// certificate, how many connections, and the time. It prints http3Totals.
const http3LoadCommand = "http3-load"

// http3Totals has the totals of a run of the load generator.
type http3Totals struct {
	Took         time.Duration
	Done, Broken int64
}

// requestRate returns requests per second.
func (t http3Totals) requestRate() float64 { return float64(t.Done) / t.Took.Seconds() }

// add counts the requests of another connection. It returns an error for a wrong answer, because the
// rate of those would mean something else.
func (t *http3Totals) add(err error) error {
	if wrong := (wrongAnswer{}); errors.As(err, &wrong) {
		return err
	} else if err != nil {
		t.Broken++
	} else {
		t.Done++
	}
	return nil
}

type wrongAnswer struct{ status string }

func (w wrongAnswer) Error() string { return "got the wrong answer " + w.status }

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

// loadHTTP3 asks for a URL by several connections, on each for one request after the other.
func loadHTTP3(url, address string, roots *x509.CertPool, connections int, length time.Duration) (all http3Totals, err error) {
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
				answer := get(ctx, client, url)
				mu.Lock()
				if wrong := all.add(answer); wrong != nil {
					err = wrong
					cancel()
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
func get(ctx context.Context, client *http3.Transport, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.RoundTrip(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return wrongAnswer{answer.Status}
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
