package http1

import (
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// before has the requests that a client makes before it becomes hostile: none, a plain one, or
// one whose response net/http takes over.
var before = map[string][]string{
	"at once":                      nil,
	"after a plain response":       {"/length"},
	"after one that is taken over": {"/chunks"},
	"after both":                   {"/length", "/chunks"},
}

// TestEndlessClient checks that a client that never ends a part of its request is cut off, and
// takes no more memory than it takes with net/http.
func TestEndlessClient(t *testing.T) {
	const post = "POST /length HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
	long := strings.Repeat("x", 4000)
	at := testsite.FreeAddress(t)
	startPlain(t, at, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path != "/chunks" {
			typed(w, 5)
		}
		io.WriteString(w, "hello")
	})})
	for name, request := range map[string]testsite.Endless{
		"method":                  {Again: "G"},
		"target":                  {Begin: "GET /length", Again: long},
		"version":                 {Begin: "GET /length HTTP/1.1", Again: "1111"},
		"empty lines":             {Again: "\r\n\r\n"},
		"field name":              {Begin: "GET /length HTTP/1.1\r\n", Again: long},
		"field value":             {Begin: "GET /length HTTP/1.1\r\nHost: localhost\r\nX: ", Again: long},
		"folded field":            {Begin: "GET /length HTTP/1.1\r\nX: ", Again: "\r\n y"},
		"fields":                  {Begin: "GET /length HTTP/1.1\r\nHost: localhost\r\n", Again: "X: y\r\n"},
		"hosts":                   {Begin: "GET /length HTTP/1.1\r\n", Again: "Host: localhost\r\n"},
		"fields of a POST":        {Begin: "POST /length HTTP/1.1\r\nHost: localhost\r\n", Again: "X: y\r\n"},
		"fields of HTTP/1.0":      {Begin: "GET /length HTTP/1.0\r\n", Again: "X: y\r\n"},
		"fields to take over":     {Begin: "GET /chunks HTTP/1.1\r\nHost: localhost\r\n\r\nGET /length HTTP/1.1\r\nHost: localhost\r\n", Again: "X: y\r\n"},
		"chunk size":              {Begin: post, Again: "0000"},
		"chunk extension":         {Begin: post + "5;", Again: long},
		"chunk extensions":        {Begin: post, Again: "1;" + long + "\r\nx\r\n"},
		"extension of last chunk": {Begin: post + "0;", Again: long},
		"chunk without an end":    {Begin: post + "1\r\nx", Again: long},
		"trailer name":            {Begin: post + "0\r\n", Again: long},
		"trailer value":           {Begin: post + "5\r\nhello\r\n0\r\nX: ", Again: long},
		"trailer":                 {Begin: post + "5\r\nhello\r\n0\r\n", Again: "X: y\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var clients sync.WaitGroup
			for when, paths := range before {
				c := dial(t, at)
				for _, path := range paths {
					c.send(path)
					c.expect()
				}
				go func() { _, _ = io.Copy(io.Discard, c.Reader) }() // there may be an answer
				clients.Go(func() {
					if cost := request.Send(t, c.Conn); !cost.Bounded() {
						t.Errorf("%s: %v", when, cost)
					}
				})
			}
			clients.Wait()
		})
	}
}

// TestDrippingClient checks that a client that sends its request byte by byte gets as much time
// as any other.
func TestDrippingClient(t *testing.T) {
	for when, paths := range before {
		t.Run(when, func(t *testing.T) {
			a, at := newAnswering(), testsite.FreeAddress(t)
			a.ReadHeaderTimeout = 200 * time.Millisecond
			startPlain(t, at, a.Server)
			c := dial(t, at)
			for _, path := range paths {
				c.send(path)
				c.expect()
			}
			closed := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, c.Reader)
				closed <- err
			}()
			for request := "GET /length HTTP/1.1\r\nX: "; ; request = "y" {
				_, err := io.WriteString(c.Conn, request)
				select {
				case end := <-closed:
					if os.IsTimeout(end) {
						t.Error("the connection is still open")
					}
					return
				case <-time.After(20 * time.Millisecond): // the time between two bytes
				}
				if os.IsTimeout(err) {
					t.Fatal("the connection is still open")
				}
			}
		})
	}
}
